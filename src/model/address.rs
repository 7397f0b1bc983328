//! Addresses as people write them, and the choice of a few of many. Looking names up is left to `driver/resolve`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use rand_core::Rng;

/// Bytes of a host name (RFC 1035, without the final dot).
const HOST_NAME_BYTES_MAX: usize = 253;
/// Bytes between two dots of a host name.
const HOST_LABEL_BYTES_MAX: usize = 63;

/// What a target names: an address, or something to look up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// A name, not empty, that fits in DNS.
    Name(Box<str>),
}

/// A host and perhaps a port: `name`, `name:80`, `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]`, `[::1]:80`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The address or name.
    pub host: Host,
    /// The port, if one was written.
    pub port: Option<u16>,
}

/// Why a text isn't a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad host {text:?}: {reason}")]
pub struct TargetError {
    text: String,
    reason: &'static str,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        parse(text).map_err(|reason| TargetError { text: text.chars().take(300).collect(), reason })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Address(address), Some(port)) => SocketAddr::new(*address, port).fmt(f),
            (Host::Address(address), None) => address.fmt(f),
            (Host::Name(name), Some(port)) => write!(f, "{name}:{port}"),
            (Host::Name(name), None) => f.write_str(name),
        }
    }
}

/// At most `max` of the addresses, chosen at random without repetition, in random order (REQUIREMENTS 003-02).
///
/// The same addresses in the same order and the same random numbers give the same sample.
pub fn sample(addresses: &[SocketAddr], max: usize, random: &mut impl Rng) -> Vec<SocketAddr> {
    let mut rest = addresses.to_vec();
    rest.sort_unstable();
    rest.dedup();
    let mut chosen = Vec::with_capacity(max.min(rest.len()));
    while chosen.len() < max && !rest.is_empty() {
        chosen.push(rest.swap_remove(below(rest.len(), random)));
    }
    chosen
}

/// All of the addresses in random order: some to begin with, and those that may stand in for them.
pub fn split(addresses: &[SocketAddr], first: usize, random: &mut impl Rng) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let mut chosen = sample(addresses, addresses.len(), random);
    let spare = chosen.split_off(first.min(chosen.len()));
    (chosen, spare)
}

/// A number below `bound` (not 0), each as likely as the others: what would favour small ones is drawn again.
fn below(bound: usize, random: &mut impl Rng) -> usize {
    let bound = bound as u64;
    let fair = u64::MAX - u64::MAX % bound;
    loop {
        let number = random.next_u64();
        if number < fair {
            return usize::try_from(number % bound).unwrap_or(0);
        }
    }
}

fn parse(text: &str) -> Result<Target, &'static str> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Target { host: Host::Address(address), port: None });
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("`[` without `]`, as in [::1]:24783")?;
        let address = address.parse().map_err(|_| "between `[` and `]` there must be an IPv6 address")?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(parse_port(port)?),
            None if rest.is_empty() => None,
            None => return Err("after `]` only `:PORT` may follow"),
        };
        return Ok(Target { host: Host::Address(IpAddr::V6(address)), port });
    }
    let (host, port) = match text.split_once(':') {
        Some((_, port)) if port.contains(':') => return Err("an IPv6 address with a port is written [ADDRESS]:PORT"),
        Some((host, port)) => (host, Some(parse_port(port)?)),
        None => (text, None),
    };
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(Target { host: Host::Address(address), port }),
        Err(_) => Ok(Target { host: Host::Name(checked_name(host)?.into()), port }),
    }
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    match text.parse() {
        Ok(0) | Err(_) => Err("the port must be a number from 1 to 65535"),
        Ok(port) => Ok(port),
    }
}

fn checked_name(name: &str) -> Result<&str, &'static str> {
    let labels = name.strip_suffix('.').unwrap_or(name);
    if labels.is_empty() {
        return Err("the name is empty");
    }
    if labels.len() > HOST_NAME_BYTES_MAX {
        return Err("the name is longer than 253 bytes");
    }
    if labels.split('.').any(|label| label.is_empty() || label.len() > HOST_LABEL_BYTES_MAX) {
        return Err("between two dots there must be 1 to 63 bytes");
    }
    if labels.chars().any(|c| c.is_whitespace() || c.is_control() || "/\\@%,;\"'[]".contains(c)) {
        return Err("a character that no host name has");
    }
    if labels.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err("looks like an IPv4 address, but isn't one");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn address(host: &str) -> Host {
        Host::Address(host.parse().expect("an address"))
    }

    fn name(host: &str) -> Host {
        Host::Name(host.into())
    }

    #[test]
    fn targets() {
        for (text, host, port) in [
            ("1.2.3.4", address("1.2.3.4"), None),
            ("1.2.3.4:80", address("1.2.3.4"), Some(80)),
            ("::1", address("::1"), None),
            ("2001:db8::1:80", address("2001:db8::1:80"), None),
            ("[::1]", address("::1"), None),
            ("[::1]:80", address("::1"), Some(80)),
            ("host", name("host"), None),
            ("host:1", name("host"), Some(1)),
            ("a.b_c.example.org.:65535", name("a.b_c.example.org."), Some(65535)),
            ("4ever.example", name("4ever.example"), None),
        ] {
            let target: Target = text.parse().expect(text);
            assert_eq!(target, Target { host, port }, "{text}");
            assert_eq!(target.to_string().parse(), Ok(target), "{text}");
        }
    }

    #[test]
    fn bad_targets() {
        let long_label = format!("{}.example", "x".repeat(64));
        let long_name = "x.".repeat(127) + "xx";
        for (text, reason) in [
            ("", "empty"),
            (".", "empty"),
            (":80", "empty"),
            ("a..b", "two dots"),
            (&long_label, "two dots"),
            (&long_name, "253"),
            ("host:", "port"),
            ("host:0", "port"),
            ("host:65536", "port"),
            ("host:http", "port"),
            ("a:1:2", "[ADDRESS]:PORT"),
            ("[::1", "without"),
            ("[1.2.3.4]", "IPv6"),
            ("[::1]80", ":PORT"),
            ("256.1.1.1", "IPv4"),
            ("a b", "character"),
            ("user@host", "character"),
            ("http://host", "port"),
            ("host/path", "character"),
        ] {
            let error = text.parse::<Target>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    fn addresses(count: u16) -> Vec<SocketAddr> {
        (1..=count).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
    }

    #[test]
    fn samples_are_subsets_without_repetition() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for count in 0..8 {
            for max in 0..5 {
                let all = addresses(count);
                let twice: Vec<_> = all.iter().chain(&all).copied().collect();
                let chosen = sample(&twice, max, &mut random);
                let distinct: BTreeSet<_> = chosen.iter().collect();
                assert_eq!(chosen.len(), max.min(usize::from(count)));
                let (first, spare) = split(&twice, max, &mut random);
                assert_eq!((first.len(), first.len() + spare.len()), (chosen.len(), usize::from(count)));
                assert!(spare.iter().all(|one| all.contains(one) && !first.contains(one)));
                assert_eq!(distinct.len(), chosen.len());
                assert!(chosen.iter().all(|one| all.contains(one)));
            }
        }
    }

    #[test]
    fn samples_are_fair_and_repeatable() {
        let all = addresses(5);
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let mut counts = BTreeMap::new();
        for _ in 0..10_000 {
            for one in sample(&all, 3, &mut random) {
                *counts.entry(one).or_insert(0) += 1;
            }
        }
        // 6,000 expected, standard deviation 49.
        assert!(counts.len() == 5 && counts.values().all(|count| (5_700..6_300).contains(count)), "{counts:?}");
        let again = |seed| sample(&all, 3, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(again(3), again(3));
        assert!((0..20).any(|seed| again(seed) != again(3)));
    }
}
