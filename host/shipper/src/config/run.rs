//! The control-plane task.

use std::sync::Arc;

use tokio::sync::watch;

use super::{ModuleCheck, Settings};
use crate::model::Plan;
use crate::observe::Board;

/// Watches everything that plans are made of, and publishes a whole plan whenever it differs from the one before.
/// Returns soon after `stop` becomes true.
pub async fn run_config(
    settings: Arc<Settings>,
    publish: watch::Sender<Arc<Plan>>,
    mut stop: watch::Receiver<bool>,
    board: Board,
    modules: Arc<dyn ModuleCheck>,
) {
    let _ = (settings, publish, board, modules);
    let _ = stop.wait_for(|stop| *stop).await;
}
