//! What goes over links: when it arrives, and who has what it was asked for.

use std::time::Duration;

use bytes::Bytes;
use ciruela::engine::fetch::{Answer, Input, Question};
use ciruela::model::limits;
use ciruela::model::peer::{ConnectionId, ProtocolVersion};
use ciruela::model::run::Run;

use super::{End, Event, IMAGE, Message, Port, World};

/// The bytes of all blocks. A liar's begin with a 1.
static GOOD: [u8; limits::RUN_BYTES_MAX] = [0; limits::RUN_BYTES_MAX];
const STALL: Duration = Duration::from_millis(20);

impl World {
    pub(super) fn port(&mut self, end: End) -> &mut Port {
        match end {
            End::Client => &mut self.ports[self.setup.nodes],
            End::Node(node) => &mut self.ports[node],
        }
    }

    /// Sends a small message.
    pub(super) fn say(&mut self, link: usize, from: End, message: Message) {
        self.port(from).send_small();
        self.deliver(link, from, self.now + self.setup.delay, message);
    }

    fn deliver(&mut self, link: usize, from: End, at: Duration, message: Message) {
        let stalled = self.random.below(10_000) < self.setup.stalls;
        let at = if stalled { at + STALL } else { at };
        let side = 1 - self.links[link].side(from);
        let at = self.links[link].arrives(side, at);
        if self.random.below(10_000) < self.setup.breaks {
            self.links[link].alive = false;
            return self.at(at, Event::Gone(link));
        }
        self.at(at, Event::Arrives(link, side, message));
    }

    pub(super) fn arrived(&mut self, link: usize, side: usize, message: Message) {
        let end = self.links[link].ends[side];
        let connection = ConnectionId(link as u64);
        let image = IMAGE;
        if let Message::Ask(question) = message {
            let Question::Run { run, .. } = question else { panic!("only runs are asked for") };
            self.port(end).queue.push_back((link, question, run));
            return self.send_next(end);
        }
        let End::Node(node) = end else { return self.client_hears(link, message) };
        let input = match message {
            Message::Ask(_) => return,
            Message::Answered(question, answer) => {
                if let Ok(Answer::Data(data)) = &answer {
                    self.nodes[node].received += data.len() as u64;
                }
                Input::Answered { connection, question, answer }
            }
            Message::Pieces { count, have } => Input::Pieces { connection, image, count, have },
            Message::Have(pieces) => Input::Have { connection, image, pieces },
            Message::Share { index, of } => Input::Share { connection, image, index, of },
            Message::Offer => Input::Offered { connection, image, version: ProtocolVersion::V2, vouched: true },
        };
        self.tell(node, input);
    }

    /// Sends the next answer that waits.
    pub(super) fn send_next(&mut self, from: End) {
        if self.port(from).sending {
            return;
        }
        let now = self.now;
        let (link, question, run) = match self.port(from).next(now) {
            Ok(next) => next,
            Err(None) => return,
            Err(Some(at)) => {
                self.port(from).sending = true;
                return self.at(at, Event::Sent(from));
            }
        };
        if !self.links[link].alive {
            return self.send_next(from);
        }
        if !self.can_serve(from, run) {
            self.say(link, from, Message::Answered(question, Err("it isn't here".to_owned())));
            return self.send_next(from);
        }
        let bytes = run.bytes(&self.image).expect("in the image");
        let data = self.data(from, bytes);
        let delay = self.setup.delay;
        self.port(from).carry(link, now, bytes as u64);
        let sent = self.port(from).send(now, bytes as u64);
        self.at(sent, Event::Sent(from));
        let to = self.links[link].ends[1 - self.links[link].side(from)];
        let there = self.port(to).receive(now + delay, sent + delay, bytes as u64);
        self.deliver(link, from, there, Message::Answered(question, Ok(Answer::Data(data))));
    }

    fn can_serve(&self, end: End, run: Run) -> bool {
        let End::Node(node) = end else { return true };
        let piece = self.cuts.piece(run.first).expect("in the image");
        let have = self.nodes[node].engine.have(IMAGE);
        self.record.finished[node].is_some() || have.is_some_and(|have| have.contains(piece))
    }

    fn data(&mut self, from: End, bytes: usize) -> Bytes {
        let lies = matches!(from, End::Node(node) if self.nodes[node].liar) && self.random.below(10) == 0;
        if lies { vec![1; bytes].into() } else { Bytes::from_static(&GOOD[..bytes]) }
    }
}
