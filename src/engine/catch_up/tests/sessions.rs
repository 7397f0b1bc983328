//! Sessions: with a node that answers from an index of its own, and with nodes that don't do what they should.

use std::collections::BTreeMap;

use super::super::*;
use crate::format::change;
use crate::format::wire::VerdictWord;
use crate::model::change::{Change, Verb};
use crate::model::ids::{ImageId, MachineId};
use crate::model::time::Stamp;

fn node(n: u8) -> NodeId {
    NodeId { address: ([10, 0, 0, n], 1).into(), machine_id: MachineId::new([n; 16]), incarnation: 1 }
}

fn signed(path: &str, stamp: u64) -> SignedChange {
    let change = Change {
        cluster: None,
        verb: Verb::Append,
        path: path.parse().expect("valid"),
        image: Some(ImageId::new([1; 32])),
        old_image: None,
        stamp: Stamp(stamp),
    };
    SignedChange::new(change, Vec::new())
}

fn at(seconds: u64) -> Now {
    Now { time: Time::new(std::time::Duration::from_secs(seconds)), stamp: Stamp(0) }
}

/// A node whose rule is that the later stamp wins; it takes everything.
#[derive(Default)]
struct Side {
    heads: BTreeMap<VPath, SignedChange>,
    catch_up: CatchUp,
    now: Now,
}

impl Side {
    fn new(changes: impl IntoIterator<Item = SignedChange>) -> Self {
        let mut side = Self::default();
        changes.into_iter().for_each(|change| assert!(side.decide(&change).newer.is_none()));
        side
    }

    fn tell(&mut self, input: Input) -> Vec<Effect> {
        let mut outbox = Outbox::new();
        self.catch_up.handle(self.now, input, &mut outbox);
        outbox.collect()
    }

    fn decide(&mut self, signed: &SignedChange) -> ProposalVerdict {
        let (path, id) = (signed.change.path.clone(), change::id(&signed.change));
        let head = self.heads.get(&path).map(|head| (head.change.stamp, change::id(&head.change)));
        let refused = self.catch_up.withdrawn(id).map(str::to_owned);
        let verdict = match head {
            _ if refused.is_some() => VerdictWord::Refused,
            Some(head) if head == (signed.change.stamp, id) => VerdictWord::Have,
            Some(head) if head > (signed.change.stamp, id) => VerdictWord::Superseded,
            Some(_) | None => VerdictWord::Accept,
        };
        if verdict == VerdictWord::Accept {
            self.heads.insert(path.clone(), signed.clone());
            self.tell(Input::Head { path: path.clone(), change: Some(id) });
        }
        let newer = self.heads.get(&path).filter(|_| verdict == VerdictWord::Superseded).cloned();
        ProposalVerdict { verdict, reason: refused, newer }
    }

    fn answer(&mut self, request: NodeRequest) -> NodeResponse {
        match request {
            NodeRequest::CompareHeads { directory, ranges } => {
                NodeResponse::CompareHeads { answers: self.catch_up.answer(&directory, &ranges) }
            }
            NodeRequest::GetHeads { paths } => NodeResponse::GetHeads {
                changes: paths.iter().filter_map(|path| self.heads.get(path)).cloned().collect(),
            },
            NodeRequest::Propose { changes } => {
                NodeResponse::Propose { verdicts: changes.iter().map(|change| self.decide(change)).collect() }
            }
            NodeRequest::Hello { .. } | NodeRequest::GetMembers { .. } => panic!("not of catch-up"),
        }
    }
}

/// Carries out the effects until a session ends; how it ended, and how many questions it took.
fn talk(opener: &mut Side, other: &mut Side, effects: Vec<Effect>) -> (Vec<Effect>, usize) {
    let mut questions = 0;
    let mut ended = Vec::new();
    let mut left: std::collections::VecDeque<_> = effects.into();
    while let Some(effect) = left.pop_front() {
        let input = match effect {
            Effect::Ask { session, request, .. } => {
                questions += 1;
                Input::Answered { session, answer: Ok(other.answer(request)) }
            }
            Effect::Propose { session, heads, .. } => {
                questions += 1;
                let changes = heads.iter().filter_map(|(path, _)| opener.heads.get(path)).cloned().collect();
                Input::Answered { session, answer: Ok(other.answer(NodeRequest::Propose { changes })) }
            }
            Effect::Decide { session, changes, .. } => {
                let verdicts = changes.iter().map(|change| opener.decide(change)).collect();
                Input::Decided { session, verdicts }
            }
            effect @ (Effect::Done { .. } | Effect::Broken { .. } | Effect::Release { .. }) => {
                ended.push(effect);
                continue;
            }
        };
        left.extend(opener.tell(input));
    }
    (ended, questions)
}

fn differs(n: u8) -> Input {
    Input::Differs { node: node(n), directory: "key".into() }
}

fn session_with(opener: &mut Side, other: &mut Side, n: u8) -> (Vec<Effect>, usize) {
    let effects = opener.tell(differs(n));
    talk(opener, other, effects)
}

#[test]
fn both_end_with_all() {
    let mut a = Side::new((0..500).map(|n| signed(&format!("/key/{n}"), 10 + n % 3)));
    let mut b = Side::new((300..900).map(|n| signed(&format!("/key/{n}"), 9 + n % 5)));
    let (ended, _) = session_with(&mut a, &mut b, 2);
    let fingerprint = a.catch_up.fingerprint("key");
    let [Effect::Done { node: with, fingerprint: told, pulled, pushed, .. }, Effect::Release { .. }] = &ended[..]
    else {
        panic!("{ended:?}")
    };
    assert_eq!((*with, *told), (node(2), fingerprint));
    assert!(*pulled > 400 && *pushed > 300, "{pulled} {pushed}");
    assert_eq!(a.heads, b.heads);
    assert_eq!((a.heads.len(), fingerprint), (900, b.catch_up.fingerprint("key")));
    let (ended, questions) = session_with(&mut a, &mut b, 2);
    assert!(questions == 1 && matches!(ended[0], Effect::Done { pulled: 0, pushed: 0, .. }), "{ended:?}");
}

#[test]
fn from_nothing_and_to_nothing() {
    let all = || Side::new((0..1_000).map(|n| signed(&format!("/key/{n}"), 1)));
    let (mut full, mut empty) = (all(), Side::default());
    session_with(&mut empty, &mut full, 2);
    assert_eq!(empty.heads, full.heads);
    let mut empty = Side::default();
    session_with(&mut full, &mut empty, 3);
    assert_eq!(empty.heads, full.heads);
}

#[test]
fn nothing_gained_means_growing_pauses() {
    let mut a = Side::new([signed("/key/a", 5)]);
    let mut b = Side::new([signed("/key/b", 5)]);
    // Neither can use what the other has.
    a.tell(Input::Withdrawn {
        change: change::id(&b.heads.values().next().expect("one").change),
        reason: "bad".into(),
    });
    b.tell(Input::Withdrawn {
        change: change::id(&a.heads.values().next().expect("one").change),
        reason: "bad".into(),
    });
    let mut sessions = 0;
    for second in 0..3_600 {
        a.now = at(second);
        let (ended, questions) = session_with(&mut a, &mut b, 2);
        assert!(questions <= 2 && ended.len() != 1);
        sessions += ended.len() / 2;
    }
    // 1, 2, 4, … 256, 300, 300, … seconds apart.
    assert!((15..25).contains(&sessions), "{sessions}");
    // The same head told again, as after its signatures were merged, ends none.
    let (path, head) = a.heads.iter().next().map(|(path, head)| (path.clone(), change::id(&head.change))).expect("one");
    a.tell(Input::Head { path, change: Some(head) });
    assert_eq!(session_with(&mut a, &mut b, 2).1, 0, "it is no news");
    a.decide(&signed("/key/c", 1));
    assert!(session_with(&mut a, &mut b, 2).1 > 0, "a new head ends the pause");
}

#[test]
fn a_broken_session_leaves_room_for_the_next_source() {
    let mut a = Side::default();
    let mut b = Side::new([signed("/key/b", 5)]);
    assert!(matches!(&a.tell(differs(2))[..], [Effect::Ask { .. }]));
    assert!(a.tell(differs(3)).is_empty() && a.tell(differs(4)).is_empty());
    assert!(a.tell(Input::Gone { node: node(4) }).is_empty());
    let effects = a.tell(Input::Gone { node: node(2) });
    let [Effect::Broken { .. }, Effect::Release { .. }, Effect::Ask { node: next, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(*next, node(3));
    let ask = effects.into_iter().nth(2).into_iter().collect();
    assert!(matches!(talk(&mut a, &mut b, ask).0[0], Effect::Done { pulled: 1, .. }));
    // The broken one has no pause.
    assert!(matches!(&a.tell(differs(2))[..], [Effect::Ask { .. }]));
}

#[test]
fn silence_ends_a_session_and_late_answers_are_nothing() {
    let mut a = Side::default();
    a.tell(differs(2));
    let (deadline, _) = a.catch_up.deadline().expect("one is open");
    let mut outbox = Outbox::new();
    a.catch_up.handle_timeout(at(29), &mut outbox);
    assert!(outbox.is_empty());
    a.catch_up.handle_timeout(Now { time: deadline, ..Now::default() }, &mut outbox);
    assert!(matches!(&outbox.collect::<Vec<_>>()[..], [Effect::Broken { .. }, Effect::Release { .. }]));
    assert_eq!(a.catch_up.deadline(), None);
    let late = Ok(NodeResponse::CompareHeads { answers: vec![RangeAnswer::Same] });
    assert!(a.tell(Input::Answered { session: SessionId(1), answer: late }).is_empty());
}

#[test]
fn few_sessions_at_once() {
    let mut a = Side::default();
    let many = limits::CATCH_UP_SESSIONS_MAX + 3;
    for n in 0..many {
        a.tell(Input::Differs { node: node(2), directory: format!("key{n}").into() });
    }
    assert_eq!(a.catch_up.open().count(), limits::CATCH_UP_SESSIONS_MAX);
    let answer = || Ok(NodeResponse::CompareHeads { answers: vec![RangeAnswer::Same] });
    for session in 1..=many as u64 {
        a.tell(Input::Answered { session: SessionId(session), answer: answer() });
    }
    assert_eq!(a.catch_up.open().count(), 0);
}

#[test]
fn dishonest_answers_break_the_session() {
    let path = |text: &str| text.parse::<VPath>().expect("valid");
    let range = |from: Option<&str>, to: Option<&str>| HeadRange {
        from: from.map(path),
        to: to.map(path),
        fingerprint: HeadsFingerprint([1; 16]),
        count: 3,
    };
    let compared = |answer| NodeResponse::CompareHeads { answers: vec![answer] };
    let head = |text| (path(text), ChangeId::new([1; 32]));
    for answer in [
        NodeResponse::GetHeads { changes: Vec::new() },
        NodeResponse::CompareHeads { answers: Vec::new() },
        NodeResponse::CompareHeads { answers: vec![RangeAnswer::Same, RangeAnswer::Same] },
        compared(RangeAnswer::Finer(Vec::new())),
        compared(RangeAnswer::Finer(vec![range(None, None)])),
        compared(RangeAnswer::Finer(vec![range(None, None), range(None, None)])),
        compared(RangeAnswer::Finer(vec![range(None, Some("/key/a")), range(Some("/key/b"), None)])),
        compared(RangeAnswer::Finer(vec![range(None, Some("/key/a")), range(Some("/key/a"), Some("/key/b"))])),
        compared(RangeAnswer::Finer(vec![
            range(None, Some("/key/b")),
            range(Some("/key/b"), Some("/key/a")),
            range(Some("/key/a"), None),
        ])),
        compared(RangeAnswer::Heads(vec![head("/other/a")])),
        compared(RangeAnswer::Heads(vec![head("/key/b"), head("/key/a")])),
        compared(RangeAnswer::Heads(vec![head("/key/a"), head("/key/a")])),
    ] {
        let mut a = Side::new([signed("/key/a", 1)]);
        a.tell(differs(2));
        let shown = format!("{answer:?}");
        let effects = a.tell(Input::Answered { session: SessionId(1), answer: Ok(answer) });
        assert!(matches!(&effects[..], [Effect::Broken { .. }, Effect::Release { .. }]), "{shown}: {effects:?}");
    }
}

#[test]
fn changes_that_were_not_asked_for_break_the_session() {
    let mut a = Side::default();
    a.tell(differs(2));
    let heads = vec![("/key/a".parse().expect("valid"), ChangeId::new([1; 32]))];
    let answers = vec![RangeAnswer::Heads(heads)];
    let asked = a.tell(Input::Answered { session: SessionId(1), answer: Ok(NodeResponse::CompareHeads { answers }) });
    assert!(matches!(&asked[..], [Effect::Ask { request: NodeRequest::GetHeads { .. }, .. }]), "{asked:?}");
    let answer = Ok(NodeResponse::GetHeads { changes: vec![signed("/key/b", 1)] });
    let effects = a.tell(Input::Answered { session: SessionId(1), answer });
    assert!(matches!(&effects[..], [Effect::Broken { .. }, Effect::Release { .. }]), "{effects:?}");
}

#[test]
fn what_was_withdrawn_is_remembered_within_bounds() {
    let mut withdrawn = Withdrawn::default();
    let id = |n: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        ChangeId::new(bytes)
    };
    let many = limits::CHANGES_WITHDRAWN_MAX + 10;
    (0..many).for_each(|n| withdrawn.insert(id(n), "é".repeat(1_000)));
    assert_eq!((withdrawn.reason(id(9)), withdrawn.reason(id(10)).map(str::len)), (None, Some(512)));
    assert!(withdrawn.reason(id(many - 1)).is_some());
}
