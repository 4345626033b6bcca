//! Everything that was written, in files, etcd and variables, to a [`crate::model::Plan`].
//!
//! In: `tailmill.toml`, `TAILMILL_*` variables and flags; entries and modules from directories and etcd. Out: checked
//! [`Settings`], and whole plans through a watch cell. What is bad is reported with its source and key, all of it at once,
//! and never replaces what is in force. This room must never be asked by others, touch a log file or a producer, or show
//! a secret.
//!
//! In reading order:

mod tree; // what was written, with its places
mod fields; // typed looks into it; every problem is kept
pub mod settings; // tailmill.toml, variables, flags
pub mod entry; // one entry's JSON
mod entry_filter; // one filter of its chain
mod entry_check; // an entry against the settings and against itself
mod classic; // the array key
pub mod modules; // module files by name
mod build; // everything found to a plan
mod directory; // entries from a directory
pub(crate) mod etcd; // entries and modules from etcd
pub(crate) mod depot; // modules as they lie there
mod saved; // the last good plan on disk
mod hints; // when to look
mod run; // the control-plane task

pub(crate) use build::filter_plan;
pub use build::{Built, Found, FoundArray, FoundEntry, FoundEtcd, build_entry, build_plan};
pub use classic::{array_key, outbound_ip};
pub use depot::PublicKey;
pub use entry::{RawEntry, RawFilter, parse_entry};
pub(crate) use etcd::list_once;
pub use modules::{ModuleCheck, Modules, NoModuleCheck};
pub(crate) use run::examine;
pub use run::{local_problems, run_config};
pub use saved::has_last_good_plan;
pub use settings::{
    AgentLimits, EntriesSettings, EtcdSettings, LogFormat, LogSettings, ModulesSettings, Overrides, Secret, Settings,
};
