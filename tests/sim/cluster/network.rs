//! The network: ordered streams which take time, have a rate and may break; datagrams which may be lost, doubled, delayed
//! and reordered.

use std::time::Duration;

use crate::disk::power::Random;

/// How bad it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions {
    /// Least time from one end to the other.
    pub(crate) delay: Duration,
    /// Up to this much more, drawn for each message.
    pub(crate) jitter: Duration,
    /// Bytes per second of one stream.
    pub(crate) rate: u64,
    /// Of a thousand messages of a stream, after how many it breaks.
    pub(crate) breaks_permille: u64,
    /// Of a thousand datagrams, how many are lost.
    pub(crate) loss_permille: u64,
    /// Of a thousand datagrams, how many come twice.
    pub(crate) doubled_permille: u64,
}

/// One direction of a stream.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lane {
    /// When the link has sent what it was given.
    sent: Duration,
    /// When the last message arrives: none overtakes it.
    arrived: Duration,
}

/// What becomes of a message on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives then.
    Arrives(Duration),
    /// The stream breaks then; nothing sent later arrives.
    Breaks(Duration),
}

impl Conditions {
    /// Everything in order and fast.
    pub(crate) const FAIR: Self = Self {
        delay: Duration::from_micros(200),
        jitter: Duration::ZERO,
        rate: 1 << 30,
        breaks_permille: 0,
        loss_permille: 0,
        doubled_permille: 0,
    };

    pub(crate) fn of_seed(random: &mut Random) -> Self {
        Self {
            delay: Duration::from_micros(50 + random.below(50_000)),
            jitter: Duration::from_micros(random.below(100_000)),
            rate: 10_000 + random.below(1 << 26),
            breaks_permille: random.below(2) * random.below(20),
            loss_permille: random.below(300),
            doubled_permille: random.below(100),
        }
    }

    fn takes(&self, random: &mut Random) -> Duration {
        let jitter = u64::try_from(self.jitter.as_micros()).expect("short");
        self.delay + Duration::from_micros(random.below(jitter + 1))
    }

    /// Sends `bytes` at `now`.
    pub(super) fn send(&self, now: Duration, lane: &mut Lane, bytes: usize, random: &mut Random) -> Fate {
        let start = lane.sent.max(now);
        lane.sent = start + Duration::from_nanos(bytes as u64 * 1_000_000_000 / self.rate);
        let arrives = (lane.sent + self.takes(random)).max(lane.arrived);
        lane.arrived = arrives;
        if random.below(1_000) < self.breaks_permille { Fate::Breaks(arrives) } else { Fate::Arrives(arrives) }
    }

    /// When the copies of a datagram sent at `now` arrive: none, one or two, in any order with others.
    pub(crate) fn send_datagram(&self, now: Duration, random: &mut Random) -> Vec<Duration> {
        let copies = 1 + usize::from(random.below(1_000) < self.doubled_permille);
        let mut arrivals = Vec::new();
        for _ in 0..copies {
            let lost = random.below(1_000) < self.loss_permille;
            let at = now + self.takes(random);
            if !lost {
                arrivals.push(at);
            }
        }
        arrivals
    }
}

#[test]
fn streams_keep_their_order_and_rate() {
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let conditions = Conditions { breaks_permille: 0, ..Conditions::of_seed(&mut random) };
        let (mut lane, mut last, mut total) = (Lane::default(), Duration::ZERO, 0);
        for _ in 0..100 {
            let bytes = usize::try_from(random.below(100_000)).expect("small");
            total += bytes as u64;
            let Fate::Arrives(at) = conditions.send(Duration::ZERO, &mut lane, bytes, &mut random) else {
                panic!("seed {seed}: it can't break")
            };
            assert!(at >= last, "seed {seed}: a message overtook another");
            last = at;
        }
        let least =
            Duration::from_nanos(total * 1_000_000_000 / conditions.rate).saturating_sub(Duration::from_micros(1));
        assert!(last >= least, "seed {seed}: faster than the link");
    }
}

#[test]
fn datagrams_get_lost_doubled_and_reordered() {
    let mut random = Random::new(7);
    let conditions =
        Conditions { jitter: Duration::from_millis(10), loss_permille: 200, doubled_permille: 100, ..Conditions::FAIR };
    let arrivals: Vec<_> =
        (0..1_000).map(|n| conditions.send_datagram(Duration::from_millis(n), &mut random)).collect();
    let count = |copies: usize| arrivals.iter().filter(|arrivals| arrivals.len() == copies).count();
    assert!((100..350).contains(&count(0)), "{} lost", count(0));
    assert!((30..150).contains(&count(2)), "{} doubled", count(2));
    let first: Vec<_> = arrivals.iter().filter_map(|arrivals| arrivals.first()).collect();
    assert!(!first.is_sorted(), "never reordered");
}
