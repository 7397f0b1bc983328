//! The contract between engines and whatever drives them, production's event loop or the simulator.
//!
//! Laws, which `tests/sim/` checks on every step:
//!
//! 1. The same inputs at the same times (and the same seed) give the same effects.
//! 2. Every effect that asks for an answer is answered by exactly one later input.
//! 3. `handle_timeout` before the deadline does nothing; at or after it, the deadline moves on or goes away.
//! 4. Only `handle` and `handle_timeout` change what `deadline` says: call it again after either.

use std::collections::VecDeque;

use crate::model::time::{Now, Time};

/// A state machine without I/O.
pub trait Engine {
    /// What can happen to it.
    type Input;
    /// What it can ask for.
    type Effect;

    /// Takes one input and appends the effects which follow from it, to be carried out in order.
    fn handle(&mut self, now: Now, input: Self::Input, outbox: &mut Outbox<Self::Effect>);

    /// When [`Engine::handle_timeout`] wants to be called, and what for; `None`: not until the next input.
    fn deadline(&self) -> Option<(Time, &'static str)>;

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Self::Effect>);
}

/// Effects in the order in which they are to be carried out.
#[derive(Debug)]
pub struct Outbox<E> {
    effects: VecDeque<E>,
}

impl<E> Outbox<E> {
    /// Nothing to do.
    pub const fn new() -> Self {
        Self { effects: VecDeque::new() }
    }

    /// Appends an effect.
    pub fn push(&mut self, effect: E) {
        self.effects.push_back(effect);
    }

    /// Takes the next effect.
    pub fn pop(&mut self) -> Option<E> {
        self.effects.pop_front()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// Moves the effects of an inner engine here, as the outer one's.
    pub fn absorb<Inner>(&mut self, inner: Outbox<Inner>, wrap: impl FnMut(Inner) -> E) {
        self.effects.extend(inner.effects.into_iter().map(wrap));
    }
}

impl<E> Default for Outbox<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Iterator for Outbox<E> {
    type Item = E;
    fn next(&mut self) -> Option<E> {
        self.pop()
    }
}

/// The earlier of two deadlines.
pub fn earlier(a: Option<(Time, &'static str)>, b: Option<(Time, &'static str)>) -> Option<(Time, &'static str)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
        (a, b) => a.or(b),
    }
}
