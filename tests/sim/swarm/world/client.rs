//! What the client says, as `engine/upload` decides it: shares, and what is given already.

use ciruela::model::piece::PieceSet;

use super::{End, Message, World};

impl World {
    /// Gives each node that the client is connected to another share, and says what the others have already.
    pub(super) fn give_shares(&mut self) {
        let links: Vec<_> = self.entries.keys().copied().collect();
        let of = u32::try_from(links.len()).expect("few");
        for (index, link) in (0..).zip(links) {
            self.say(link, End::Client, Message::Share { index, of });
            self.tell_given(link);
        }
    }

    pub(super) fn client_hears(&mut self, link: usize, message: Message) {
        match message {
            Message::Pieces { count, have } => {
                if let Some(pieces) = PieceSet::from_bytes(count, &have).filter(|_| self.entries.contains_key(&link)) {
                    self.entries.insert(link, pieces);
                    self.tell_given(link);
                }
            }
            Message::Have(pieces) => {
                let known = |piece: &u32| self.entries.values().any(|has| has.contains(*piece));
                let news: Vec<_> = pieces.iter().copied().filter(|piece| !known(piece)).collect();
                if let Some(has) = self.entries.get_mut(&link) {
                    for piece in pieces {
                        has.insert(piece);
                    }
                }
                let others: Vec<_> = self.entries.keys().copied().filter(|other| *other != link).collect();
                for other in others.into_iter().filter(|_| !news.is_empty()) {
                    self.say(other, End::Client, Message::Have(news.clone()));
                }
            }
            Message::Ask(_) | Message::Answered(..) | Message::Offer | Message::Share { .. } => {}
        }
    }

    /// Tells one what others have.
    fn tell_given(&mut self, link: usize) {
        let others = self.entries.iter().filter(|(other, _)| **other != link);
        let mut pieces: Vec<_> = others.flat_map(|(_, has)| has.iter()).collect();
        pieces.sort_unstable();
        pieces.dedup();
        if !pieces.is_empty() {
            self.say(link, End::Client, Message::Have(pieces));
        }
    }
}
