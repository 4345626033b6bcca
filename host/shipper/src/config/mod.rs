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
mod entry; // one entry's JSON
pub mod modules; // module files by name
mod run; // the control-plane task

pub use modules::{ModuleCheck, Modules, NoModuleCheck};
pub use run::run_config;
pub use settings::{
    AgentLimits, EntriesSettings, EtcdSettings, LogFormat, LogSettings, ModulesSettings, Overrides, Secret, Settings,
};
