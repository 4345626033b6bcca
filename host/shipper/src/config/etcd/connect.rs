//! Connections and single requests. Passwords and certificates are read at every connection, so that a changed one needs no
//! restart.

use std::path::Path;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::time::timeout;

use super::super::settings::EtcdSettings;

/// One request. Longer than a leader election (some 2 s).
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// Pings of the connection. etcd answers pings that come faster than every 5 s by closing it.
const PING_EVERY: Duration = Duration::from_secs(6);
const PING_ANSWER_MAX: Duration = Duration::from_secs(3);

/// A client of all endpoints. A token that has expired is replaced by the client itself.
pub(crate) async fn connect(settings: &EtcdSettings) -> Result<Client, String> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(REQUEST_MAX)
        .with_keep_alive(PING_EVERY, PING_ANSWER_MAX)
        .with_require_leader(true);
    if let Some(user) = &settings.user {
        options = options.with_user(user, password(settings)?).with_auto_token_refresh(true);
    }
    if let Some(tls) = tls(settings)? {
        options = options.with_tls(tls);
    }
    within("connecting", Client::connect(&settings.endpoints, Some(options))).await
}

fn password(settings: &EtcdSettings) -> Result<String, String> {
    match (&settings.password, &settings.password_file) {
        (Some(password), _) => Ok(password.reveal().to_owned()),
        (None, Some(path)) => Ok(read(path)?.trim_end_matches(['\n', '\r']).to_owned()),
        (None, None) => Err("there is no password for etcd.user".to_owned()),
    }
}

fn tls(settings: &EtcdSettings) -> Result<Option<TlsOptions>, String> {
    let Some(ca) = &settings.ca else { return Ok(None) };
    let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca)?));
    if let (Some(cert), Some(key)) = (&settings.cert, &settings.key) {
        tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    Ok(Some(tls))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("while reading {}: {error}", path.display()))
}

/// The answer, or why there is none, within a few seconds.
pub(crate) async fn within<T>(
    doing: &str,
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, String> {
    match timeout(REQUEST_MAX, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(said(doing, &error)),
        Err(_) => Err(format!("while {doing}: no answer within {} s", REQUEST_MAX.as_secs())),
    }
}

/// gRPC's own words without its wrapping.
pub(crate) fn said(doing: &str, error: &etcd_client::Error) -> String {
    match error {
        etcd_client::Error::GRpcStatus(status) if !status.message().is_empty() => {
            format!("while {doing}: {}", status.message())
        }
        other => {
            let cause = std::error::Error::source(other).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("while {doing}: {other}{cause}")
        }
    }
}
