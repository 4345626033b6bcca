//! What the service manager is told, by systemd's protocol: a datagram of `NAME=value` lines to the socket named in
//! `NOTIFY_SOCKET`. Where nobody listens nothing is sent, and a failure to tell never stops the agent.
//!
//! The watchdog is fed only while the board says that every shard moves: a stuck agent is restarted.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::sync::watch;

use crate::observe::Board;
use crate::observe::status::Status;
use crate::observe::status_text::one_line;

/// How often the status line is renewed when there is no watchdog that wants it oftener.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// Tells the service manager named in the environment, if any, that the agent is ready, then how it is doing, and that it
/// is stopping as soon as `stop` is true.
pub async fn notify_service_manager(board: Board, stop: watch::Receiver<bool>) {
    let notifier = Notifier::from_env();
    notifier.ready();
    notifier.run(board, stop).await;
    notifier.stopping();
}

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub fn from_env() -> Notifier {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Notifier::default() };
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0).map(Duration::from_micros);
        Notifier::to(&name, watchdog).unwrap_or_else(|error| {
            tracing::warn!(socket = ?name, %error, "cannot tell the service manager anything");
            Notifier::default()
        })
    }

    /// To this socket: a path, or an abstract name after `@`.
    pub fn to(name: &OsStr, watchdog: Option<Duration>) -> std::io::Result<Notifier> {
        let socket = UnixDatagram::unbound()?;
        match name.as_bytes().strip_prefix(b"@") {
            Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
            None => socket.connect(OsString::from(name))?,
        }
        // A manager that does not read must not hold us.
        socket.set_nonblocking(true)?;
        Ok(Notifier { socket: Some(socket), watchdog })
    }

    /// The agent has started: shards run.
    pub fn ready(&self) {
        self.send("READY=1\n");
    }

    /// The agent has begun to stop.
    pub fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    /// Feeds the watchdog and renews the status line until stopped.
    pub async fn run(&self, board: Board, mut stop: watch::Receiver<bool>) {
        if self.socket.is_none() {
            return;
        }
        // Half of the watchdog's time, as sd_watchdog_enabled(3) recommends.
        let every = self.watchdog.map_or(STATUS_EVERY, |watchdog| (watchdog / 2).min(STATUS_EVERY));
        let mut ticks = tokio::time::interval(every);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.tell(&board),
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// One look at the board.
    pub fn tell(&self, board: &Board) {
        let view = board.view();
        let alive = view.not_alive();
        let status = Status::of(&view);
        // One line: the protocol knows no escapes.
        let line = alive.first().or(status.not_ready.first()).cloned().unwrap_or_else(|| one_line(&status));
        let line = line.replace('\n', " ");
        let watchdog = if alive.is_empty() && self.watchdog.is_some() { "WATCHDOG=1\n" } else { "" };
        self.send(&format!("STATUS={line}\n{watchdog}"));
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::debug!(%error, "cannot reach the service manager");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::ShardSnapshot;
    use std::time::Instant;

    struct Manager(UnixDatagram, tempfile::TempDir);

    impl Manager {
        fn new() -> Manager {
            let dir = tempfile::tempdir().unwrap();
            Manager(UnixDatagram::bind(dir.path().join("notify")).unwrap(), dir)
        }

        fn notifier(&self, watchdog: Option<Duration>) -> Notifier {
            Notifier::to(self.1.path().join("notify").as_os_str(), watchdog).unwrap()
        }

        fn heard(&self) -> String {
            let mut buffer = [0; 4096];
            let n = self.0.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..n].to_vec()).unwrap()
        }
    }

    #[test]
    fn start_and_stop_are_told() {
        let manager = Manager::new();
        let notifier = manager.notifier(None);
        notifier.ready();
        assert_eq!(manager.heard(), "READY=1\n");
        notifier.stopping();
        assert_eq!(manager.heard(), "STOPPING=1\n");
    }

    #[test]
    fn the_watchdog_is_fed_while_shards_move_and_not_when_one_is_stuck() {
        let manager = Manager::new();
        let notifier = manager.notifier(Some(Duration::from_secs(60)));
        let board = Board::new("n", 1);
        notifier.tell(&board);
        assert_eq!(manager.heard(), "STATUS=no plan in force yet\nWATCHDOG=1\n");
        let long_ago = Instant::now().checked_sub(Duration::from_secs(40)).unwrap();
        board.publish_at(0, ShardSnapshot::default(), long_ago);
        notifier.tell(&board);
        let heard = manager.heard();
        assert!(heard.starts_with("STATUS=shard 0 has been silent for") && !heard.contains("WATCHDOG"), "{heard}");
    }

    #[test]
    fn without_a_watchdog_only_the_status_is_told() {
        let manager = Manager::new();
        let board = Board::new("n", 1);
        board.plan(&crate::model::Plan::default());
        manager.notifier(None).tell(&board);
        assert_eq!(manager.heard(), "STATUS=0 files in 0 entries, 0 lines/s, 0 sent/s, lag 0 B\n");
    }

    #[test]
    fn an_abstract_socket_is_reached_by_its_name_after_the_at_sign() {
        let name = format!("tailmill-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notifier::to(OsStr::new(&format!("@{name}")), None).unwrap().ready();
        let mut buffer = [0; 64];
        let n = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"READY=1\n");
    }

    #[test]
    fn a_manager_that_went_away_is_no_reason_to_fail() {
        let manager = Manager::new();
        let notifier = manager.notifier(None);
        drop(manager);
        notifier.ready();
        Notifier::default().ready();
    }
}
