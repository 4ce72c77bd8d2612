//! The door of `rote-intervene`.

fn main() {}
