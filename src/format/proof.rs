//! How a node proves to another that it knows the cluster's key: a keyed hash over who speaks to whom.
//!
//! Keyed BLAKE2b with 32 bytes of output over a domain tag, the role of who proves, both nodes and both nonces. Each side
//! has chosen one of the nonces, so no proof can be used again; the role keeps one from being sent back to its sender.

use crate::format::wire::Proof;
use crate::model::peer::{ClusterKey, NodeId};

const TAG: &[u8] = b"ciruela node proof v1\0";

/// Who proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The node that made the connection.
    Opener,
    /// The node that took it.
    Acceptor,
}

/// A connection between two nodes, and the nonces that they chose for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// Who made the connection.
    pub opener: NodeId,
    /// Its nonce.
    pub opener_nonce: [u8; 32],
    /// Who took it.
    pub acceptor: NodeId,
    /// Its nonce.
    pub acceptor_nonce: [u8; 32],
}

/// The proof of one side.
pub fn prove(key: &ClusterKey, role: Role, greeting: &Greeting) -> Proof {
    let mut state = blake2b_simd::Params::new().hash_length(32).key(&key.0).to_state();
    state.update(TAG);
    state.update(match role {
        Role::Opener => b"o",
        Role::Acceptor => b"a",
    });
    for (node, nonce) in [(&greeting.opener, &greeting.opener_nonce), (&greeting.acceptor, &greeting.acceptor_nonce)] {
        let address = node.address.to_string();
        state.update(&(address.len() as u64).to_le_bytes()).update(address.as_bytes());
        state.update(node.machine_id.as_bytes()).update(&node.incarnation.to_le_bytes()).update(nonce);
    }
    Proof(state.finalize().as_bytes().try_into().expect("32 bytes were asked for"))
}

/// Whether the proof is that of the other side. Takes the same time whatever differs.
pub fn verify(key: &ClusterKey, role: Role, greeting: &Greeting, proof: &Proof) -> bool {
    let right = prove(key, role, greeting);
    right.0.iter().zip(proof.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::MachineId;

    #[test]
    fn everything_counts() {
        let node = |n: u8| NodeId {
            address: ([127, 0, 0, n], 24_783).into(),
            machine_id: MachineId::new([n; 16]),
            incarnation: n.into(),
        };
        let greeting = Greeting { opener: node(1), opener_nonce: [3; 32], acceptor: node(2), acceptor_nonce: [4; 32] };
        let key = ClusterKey([5; 32]);
        let proof = prove(&key, Role::Opener, &greeting);
        assert!(verify(&key, Role::Opener, &greeting, &proof));
        assert!(!verify(&key, Role::Acceptor, &greeting, &proof));
        assert!(!verify(&ClusterKey([6; 32]), Role::Opener, &greeting, &proof));
        let mut swapped = greeting;
        std::mem::swap(&mut swapped.opener, &mut swapped.acceptor);
        assert!(!verify(&key, Role::Opener, &swapped, &proof));
        for change in [
            |greeting: &mut Greeting| greeting.opener_nonce[0] ^= 1,
            |greeting: &mut Greeting| greeting.acceptor_nonce[31] ^= 1,
            |greeting: &mut Greeting| greeting.opener.incarnation += 1,
            |greeting: &mut Greeting| greeting.acceptor.machine_id = MachineId::new([9; 16]),
            |greeting: &mut Greeting| greeting.acceptor.address.set_port(1),
        ] {
            let mut other = greeting;
            change(&mut other);
            assert!(!verify(&key, Role::Opener, &other, &proof));
        }
    }
}
