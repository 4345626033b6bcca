//! A disk that fails, for one file and one program: a small library that the program is started with lets system calls on
//! that file fail while a flag file exists.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::agent::Agent;

/// Which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// `pread`.
    Reads,
    /// `pwrite`, `ftruncate`, `fsync`, `fdatasync`.
    Writes,
}

/// The failing file, and the switch.
#[derive(Debug)]
pub struct FailingDisk {
    flag: PathBuf,
}

impl FailingDisk {
    /// From its next start on, these calls of the agent on `path` can be made to fail with this error number.
    pub fn under(agent: &mut Agent, path: &Path, calls: Calls, errno: i32) -> FailingDisk {
        let (library, flag) = (agent.path("failing.so"), agent.path("failing"));
        compile(&agent.path("failing.c"), &library);
        let calls = if calls == Calls::Reads { "reads" } else { "writes" };
        agent.variable("LD_PRELOAD", library).variable("FAILING_FLAG", &flag).variable("FAILING_PATH", path);
        agent.variable("FAILING_CALLS", calls).variable("FAILING_ERRNO", errno.to_string());
        FailingDisk { flag }
    }

    /// From now on they fail.
    pub fn break_it(&self) {
        std::fs::write(&self.flag, "").expect("a small file can be written");
    }

    /// From now on they work.
    pub fn mend(&self) {
        std::fs::remove_file(&self.flag).expect("it was broken");
    }
}

fn compile(source: &Path, library: &Path) {
    std::fs::write(source, include_str!("failing.c")).expect("a small file can be written");
    let mut cc = Command::new("cc");
    let output = cc.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).args([library, source]).output();
    let output = output.expect("cc can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
