//! A TCP proxy on this machine that can stop passing bytes on while its connections stay open: a partition that looks alive.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use crate::scratch;

/// Connections to one port, passed on to another.
pub struct Proxy {
    port: u16,
    frozen: Arc<(Mutex<bool>, Condvar)>,
}

impl Proxy {
    /// A proxy for this port of 127.0.0.1. It lives as long as the test process.
    pub fn to(target: u16) -> Proxy {
        let port = scratch::port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let frozen = Arc::new((Mutex::new(false), Condvar::new()));
        let shared = frozen.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) =
                        (from.try_clone().expect("a socket can be copied"), to.try_clone().expect("again"));
                    let frozen = shared.clone();
                    std::thread::spawn(move || pass(from, to, &frozen));
                }
            }
        });
        Proxy { port, frozen }
    }

    /// The URL for clients.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Nothing passes any more; nobody is told.
    pub fn freeze(&self) {
        *self.frozen.0.lock().expect("no thread panics in here") = true;
    }

    /// What waited passes.
    pub fn thaw(&self) {
        *self.frozen.0.lock().expect("no thread panics in here") = false;
        self.frozen.1.notify_all();
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, frozen: &(Mutex<bool>, Condvar)) {
    let mut buffer = [0; 16 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        let still = frozen.0.lock().expect("no thread panics in here");
        drop(frozen.1.wait_while(still, |still| *still).expect("no thread panics in here"));
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
