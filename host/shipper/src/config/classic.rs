//! The classic array key: `[{"path": "…", "topic": "…"}, …]` under a key that holds this host's outbound IP.
//!
//! An item has no name of its own. Its identity is its path, so that items may change their place, topic and filters and
//! keep their marks. An item may use every key of an entry.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use sha2::{Digest as _, Sha256};

use super::tree::{self, Tree, Value};
use crate::model::Problem;

/// One item of the array.
pub(super) struct Item {
    pub(super) index: usize,
    /// Derived from the path; none when the path cannot be read.
    pub(super) name: Option<String>,
    pub(super) tree: Tree,
}

/// The array's key for this host: `%s` replaced by its outbound IP.
pub fn array_key(pattern: &str) -> String {
    if pattern.contains("%s") { pattern.replace("%s", &outbound_ip().to_string()) } else { pattern.to_owned() }
}

/// The address this host would use towards the Internet: a UDP socket is connected, which sends nothing. Without a route,
/// 127.0.0.1.
pub fn outbound_ip() -> IpAddr {
    let ask = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(8, 8, 8, 8), 80))?;
        Ok(socket.local_addr()?.ip())
    };
    ask().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The items of the array, or the problem that it is none.
pub(super) fn items(source: &str, json: &[u8]) -> Result<Vec<Item>, Problem> {
    let tree = tree::from_json(source, json)?;
    let Value::List(list) = tree.value else {
        return Err(Problem {
            source: source.to_owned(),
            key: String::new(),
            reason: format!("expected a list of entries, found {}", tree.value.kind()),
        });
    };
    let item = |(index, tree): (usize, Tree)| Item { index, name: paths(&tree).map(|paths| name(&paths)), tree };
    Ok(list.into_iter().enumerate().map(item).collect())
}

fn paths(tree: &Tree) -> Option<Vec<&str>> {
    let Value::Table(pairs) = &tree.value else { return None };
    let (_, path) = pairs.iter().find(|(key, _)| key == "path")?;
    match &path.value {
        Value::Text(text) => Some(vec![text.as_str()]),
        Value::List(items) if !items.is_empty() => items
            .iter()
            .map(|item| match &item.value {
                Value::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

/// `app.log@` and 16 hex digits. The `@` cannot stand in a name that somebody wrote, so the two kinds never meet.
fn name(paths: &[&str]) -> String {
    let hash = hex::encode(&Sha256::digest(paths.join("\n"))[..8]);
    let last = paths[0].rsplit('/').next().unwrap_or_default();
    let ordinary = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let readable: String = last.chars().map(ordinary).take(40).collect();
    format!("{readable}@{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(json: &str) -> Vec<Option<String>> {
        items("etcd k", json.as_bytes()).unwrap().into_iter().map(|item| item.name).collect()
    }

    #[test]
    fn an_items_name_hangs_on_its_path_alone() {
        let before = names(r#"[{"path":"/a/x.log","topic":"a"},{"path":"/b/*.log","topic":"b"}]"#);
        let after = names(r#"[{"topic":"other","path":"/b/*.log","filters":[]},{"path":["/a/x.log"],"topic":"a"}]"#);
        assert_eq!(before[0], after[1]);
        assert_eq!(before[1], after[0]);
        // The names are part of every stored mark: they must never change.
        assert_eq!(before[0].as_deref(), Some("x.log@af4173fe604afc7b"));
        assert!(before[1].as_deref().unwrap().starts_with("_.log@"), "{before:?}");
    }

    #[test]
    fn what_has_no_path_has_no_name_and_what_is_no_list_is_one_problem() {
        assert_eq!(names(r#"[{"pth":"/a"}, 7, {"path":[]}, {"path":[1]}]"#), [None, None, None, None]);
        let problem = items("etcd k", b"{}").err().unwrap();
        assert_eq!(problem.to_string(), "etcd k: expected a list of entries, found an object");
        let problem = items("etcd k", b"[{}").err().unwrap();
        assert_eq!(problem.to_string(), "etcd k: is not JSON: EOF while parsing a list at line 1 column 3");
    }

    #[test]
    fn the_key_holds_the_outbound_ip() {
        assert_eq!(array_key("collect_log_%s_conf"), format!("collect_log_{}_conf", outbound_ip()));
        assert_eq!(array_key("plain"), "plain");
    }
}
