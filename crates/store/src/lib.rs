//! Results named by content: digests, manifests, folders that are whole or absent. Knows nothing of tables.
//!
//! ```
//! use rote_store::Digest;
//! assert_ne!(Digest::of(b"a"), Digest::of(b"b"));
//! ```
//!
//! Deliberately absent: tables, models, stages, any look at the clock that could change a result.

mod checked;
mod digest;
mod hub;
mod key;
mod lock;
mod manifest;
mod memory;
mod output;
mod place;

pub use checked::{read_checked, write_checked};
pub use digest::{Damaged, Digest, digest_file, digest_path, files_of};
pub use hub::{HubId, hub_caches, model_place};
pub use key::{Change, Key, KeyInput};
pub use lock::{Attempt, Lock, host};
pub use manifest::{Ancestor, FileEntry, InputEntry, Manifest, StageEntry, Subject, TableEntry};
pub use memory::Memory;
pub use output::{Output, is_foreign};
pub use place::{atomic_write, new_folder_beside, sync_folder};
