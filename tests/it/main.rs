//! Tests of the two programs from outside, as processes.

mod index;
