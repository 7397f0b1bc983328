//! Catch-up alone: nodes whose changes spread by nothing else, over a network that is slow, breaks and loses, while nodes
//! go off and come back. All must end with the same heads (I1).

mod costs;
mod node;
mod scenarios;
mod world;
