//! The runner: what runs and why, nothing lost, nothing damaged unseen, nothing read that was not permitted.

mod damage;
mod ends;
mod engines;
mod keep;
mod keys;
mod lab;
mod parts;
mod real;
mod shards;
mod strangers;
mod wrong;
