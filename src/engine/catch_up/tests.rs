//! The index against a plain map, and sessions against an honest node and against others.

mod index;
mod sessions;
