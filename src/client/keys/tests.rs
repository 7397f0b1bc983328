//! Tests of the search for keys.
