//! Tests that run the whole thing; see `README.md` beside this crate.
