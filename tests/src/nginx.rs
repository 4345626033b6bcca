//! A real nginx under load: each client sends its log lines in a header, and nginx writes them into its access log. Two
//! workers share it, and open it anew when they get to it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::lines::{self, Style};
use crate::process::{Process, last_lines};
use crate::{scratch, wait};

/// Between two requests of a client.
const PACE: Duration = Duration::from_millis(1);

/// The server and its clients. Dropping it kills it.
pub struct Nginx {
    process: Process,
    home: PathBuf,
    clients: Vec<Client>,
}

struct Client {
    thread: JoinHandle<u64>,
    end: Sender<()>,
    /// Requests that were answered.
    answered: Arc<AtomicU64>,
}

impl Nginx {
    /// A server with its files in `home` that writes to `log`, under the load of so many clients, writers 0, 1, …
    pub fn start(home: &Path, log: &Path, clients: u32) -> Nginx {
        let program = scratch::fetched("fetch-nginx");
        std::fs::create_dir_all(home).expect("a directory can be made");
        let port = scratch::port();
        std::fs::write(home.join("nginx.conf"), config(home, log, port)).expect("a small file can be written");
        let mut command = Command::new(program);
        command.arg("-p").arg(home).arg("-e").arg(home.join("error.log")).arg("-c").arg(home.join("nginx.conf"));
        let process = Process::start("nginx", &mut command, &home.join("error.log"));
        let connect = move || TcpStream::connect(("127.0.0.1", port)).ok();
        wait::until("nginx answers", || last_lines(&home.join("error.log"), 20), connect);
        let clients = (0..clients).map(|writer| Client::start(writer, port)).collect();
        Nginx { process, home: home.to_owned(), clients }
    }

    /// What a rotating tool runs when it has renamed the log: as Debian's package does.
    pub fn script_reopen(home: &Path) -> String {
        format!("kill -USR1 $(cat '{}')", home.join("nginx.pid").display())
    }

    /// For each client, how many of its lines are in the log by now, at least.
    pub fn written(&self) -> Vec<u64> {
        // The answer to a request may go out before its line is written; the next request waits for that.
        self.clients.iter().map(|client| client.answered.load(Ordering::SeqCst).saturating_sub(1)).collect()
    }

    /// No more requests, and every line is written; how many each client sent.
    pub fn end(mut self) -> Vec<u64> {
        let clients = std::mem::take(&mut self.clients);
        let sent = clients.into_iter().map(Client::end).collect();
        // Workers write their last lines before they end.
        let error_log = self.home.join("error.log");
        self.process.signal(rustix::process::Signal::QUIT);
        let status = self.process.wait();
        assert!(status.success(), "nginx ended with {status}\n{}", last_lines(&error_log, 20));
        sent
    }
}

impl Client {
    fn start(writer: u32, port: u16) -> Client {
        let (end, ended) = mpsc::channel();
        let answered = Arc::new(AtomicU64::new(0));
        let count = answered.clone();
        let thread = std::thread::spawn(move || {
            let mut server = TcpStream::connect(("127.0.0.1", port)).expect("nginx answers");
            let mut number = 0;
            while ended.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                request(&mut server, &lines::line(Style::Syslog, writer, number));
                number += 1;
                count.store(number, Ordering::SeqCst);
            }
            number
        });
        Client { thread, end, answered }
    }

    fn end(self) -> u64 {
        self.end.send(()).expect("it asks until it is told");
        self.thread.join().expect("it asks until it is told")
    }
}

/// One request on a connection that stays; returns when it was answered.
fn request(server: &mut TcpStream, line: &[u8]) {
    let request = [&b"GET / HTTP/1.1\r\nHost: test\r\nX-Line: "[..], line, b"\r\n\r\n"].concat();
    server.write_all(&request).expect("nginx listens");
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    while !answer.ends_with(b"\r\n\r\n") {
        let got = server.read(&mut part).expect("nginx answers");
        assert!(got > 0, "nginx closed a connection: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..got]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(&answer));
}

fn config(home: &Path, log: &Path, port: u16) -> String {
    // Who is not root need not say who it is.
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    let home = home.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("    {what}_temp_path {home}/{what};\n"))
        .concat();
    format!(
        "{user}\ndaemon off;\nworker_processes 2;\npid {home}/nginx.pid;\nevents {{ }}\nhttp {{\n{temporary}\
         \x20   log_format line escape=none '$http_x_line';\n    access_log {} line;\n    keepalive_requests 1000000;\n\
         \x20   server {{ listen 127.0.0.1:{port}; return 204; }}\n}}\n",
        log.display()
    )
}
