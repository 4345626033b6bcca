//! The admin port: `/metrics`, `/healthz`, `/readyz`, `/status` over HTTP. Reads the board, changes nothing.
//!
//! In: a listener (port 0 in tests), the board, a stop signal. It has no authentication and belongs on the loopback
//! address or behind something that has.

use std::io;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::observe::status::Status;
use crate::observe::{Board, metrics};

/// How long open connections may take to end once the agent stops.
const LINGER: Duration = Duration::from_secs(1);

const INDEX: &str = "tailmill: /metrics (OpenMetrics), /status (JSON), /readyz, /healthz\n";

/// Serves until `stop` is true. Errors are those of the listener.
pub async fn serve(board: Board, listener: TcpListener, stop: watch::Receiver<bool>) -> io::Result<()> {
    let mut graceful = stop.clone();
    let server = axum::serve(listener, router(board)).with_graceful_shutdown(async move {
        let _ = graceful.wait_for(|stop| *stop).await;
    });
    // A client that keeps its connection open must not keep the agent.
    let mut hard = stop;
    tokio::select! {
        result = async { server.await } => result,
        () = async move {
            let _ = hard.wait_for(|stop| *stop).await;
            tokio::time::sleep(LINGER).await;
        } => Ok(()),
    }
}

fn router(board: Board) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/metrics", get(render_metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .fallback(|| async { (StatusCode::NOT_FOUND, INDEX) })
        .with_state(board)
}

async fn render_metrics(State(board): State<Board>) -> Response {
    match metrics::render(&board) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "while writing metrics: cannot be formatted\n").into_response(),
    }
}

async fn healthz(State(board): State<Board>, headers: HeaderMap) -> Response {
    verdict(&headers, "alive", board.view().not_alive())
}

async fn readyz(State(board): State<Board>, headers: HeaderMap) -> Response {
    verdict(&headers, "ready", board.view().not_ready())
}

async fn status(State(board): State<Board>) -> Response {
    Json(Status::of(&board.view())).into_response()
}

#[derive(Serialize)]
struct Verdict {
    ok: bool,
    reasons: Vec<String>,
}

/// 200, or 503 with the reasons: a line each, or as JSON for who asks for it.
fn verdict(headers: &HeaderMap, good: &str, reasons: Vec<String>) -> Response {
    let ok = reasons.is_empty();
    let code = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("application/json") {
        return (code, Json(Verdict { ok, reasons })).into_response();
    }
    let mut text = if ok { format!("{good}\n") } else { format!("not {good}\n") };
    for reason in &reasons {
        text.push_str(reason);
        text.push('\n');
    }
    (code, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Plan;
    use crate::observe::{EntryLedger, Part, ShardSnapshot};
    use std::time::Instant;

    /// A real server on a port of its own; stops when dropped.
    struct Server {
        url: String,
        stop: watch::Sender<bool>,
        thread: Option<std::thread::JoinHandle<io::Result<()>>>,
    }

    impl Server {
        fn start(board: &Board) -> Server {
            let (stop, stopped) = watch::channel(false);
            let std_listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            std_listener.set_nonblocking(true).unwrap();
            let url = format!("http://{}", std_listener.local_addr().unwrap());
            let board = board.clone();
            let thread = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async { serve(board, TcpListener::from_std(std_listener).unwrap(), stopped).await })
            });
            Server { url, stop, thread: Some(thread) }
        }

        fn get(&self, path: &str, accept: &str) -> (u16, String, String) {
            let config = ureq::Agent::config_builder().http_status_as_error(false).build();
            let url = format!("{}{path}", self.url);
            let mut response = ureq::Agent::new_with_config(config).get(url).header("accept", accept).call().unwrap();
            let kind = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
            let body = response.body_mut().read_to_string().unwrap();
            (response.status().as_u16(), kind.unwrap_or_default(), body)
        }

        fn stop(&mut self) {
            self.stop.send_replace(true);
            if let Some(thread) = self.thread.take() {
                thread.join().unwrap().unwrap();
            }
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.stop();
        }
    }

    fn ready_board() -> Board {
        let board = Board::new("n", 1);
        board.plan(&Plan { revision: 1, ..Plan::default() });
        board.publish(0, ShardSnapshot::default());
        board
    }

    #[test]
    fn readiness_changes_with_the_board_and_names_its_reasons() {
        let board = Board::new("n", 1);
        let server = Server::start(&board);
        let check = |code: u16, body: &str| {
            let (got, _, text) = server.get("/readyz", "*/*");
            assert_eq!((got, text.as_str()), (code, body));
        };
        check(503, "not ready\nno plan in force yet\n");
        board.plan(&Plan { revision: 1, ..Plan::default() });
        check(200, "ready\n");
        board.trouble(Part::Store, 0, "no space left on device");
        check(503, "not ready\nstate store: no space left on device\n");
        board.well(Part::Store, 0);
        check(200, "ready\n");
        board.stopping();
        check(503, "not ready\nstopping\n");
        let (code, kind, body) = server.get("/readyz", "application/json");
        assert_eq!((code, kind.as_str()), (503, "application/json"));
        assert_eq!(body, r#"{"ok":false,"reasons":["stopping"]}"#);
    }

    #[test]
    fn health_is_lost_when_a_shard_falls_silent() {
        let board = ready_board();
        let server = Server::start(&board);
        assert_eq!(server.get("/healthz", "*/*").0, 200);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(40)).unwrap();
        board.publish_at(0, ShardSnapshot::default(), long_ago);
        let (code, _, body) = server.get("/healthz", "*/*");
        assert!(code == 503 && body.contains("shard 0 has been silent for"), "{code} {body}");
    }

    #[test]
    fn status_is_the_document_and_metrics_are_openmetrics() {
        let server = Server::start(&ready_board());
        let (code, kind, body) = server.get("/status", "*/*");
        let status: Status = serde_json::from_str(&body).unwrap();
        assert_eq!((code, kind.as_str(), status.node.as_str()), (200, "application/json", "n"));
        let (code, kind, body) = server.get("/metrics", "*/*");
        assert_eq!((code, kind.as_str()), (200, metrics::CONTENT_TYPE));
        assert!(body.ends_with("# EOF\n"), "{body}");
    }

    #[test]
    fn an_unknown_path_says_what_there_is() {
        let server = Server::start(&ready_board());
        let (code, _, body) = server.get("/metric", "*/*");
        assert_eq!((code, body.as_str()), (404, INDEX));
        assert_eq!(server.get("/", "*/*").0, 200);
    }

    #[test]
    fn a_client_that_does_not_read_does_not_keep_the_server_from_stopping() {
        // An answer of some 20 MB: more than the buffers of a connection take.
        let entries = (0..20_000).map(|i| (format!("{i}").as_str().into(), EntryLedger::default())).collect();
        let board = ready_board();
        board.publish(0, ShardSnapshot { entries, ..ShardSnapshot::default() });
        let mut server = Server::start(&board);
        let address = server.url.trim_start_matches("http://").to_owned();
        let mut lazy = std::net::TcpStream::connect(address).unwrap();
        io::Write::write_all(&mut lazy, b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        assert!(io::Read::read(&mut lazy, &mut [0; 1024]).unwrap() > 0);
        server.stop();
    }
}
