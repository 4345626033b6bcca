//! New settings for an agent that runs: what takes effect, and what waits for a restart. Pure.

use super::Settings;

impl Settings {
    /// What takes effect now of `new`, and the keys whose change waits for the next start. What threads, sockets and files
    /// were made of stays as it is.
    pub(crate) fn reloaded(&self, new: Settings) -> (Settings, Vec<&'static str>) {
        let paths = |settings: &Settings| format!("{:?}", settings.entries.allow_paths);
        let changed = [
            ("node", self.node != new.node),
            ("state_dir", self.state_dir != new.state_dir),
            ("kafka, clusters", self.clusters != new.clusters),
            ("entries.allow_paths", paths(self) != paths(&new)),
            ("admin", self.admin != new.admin || self.file_metrics != new.file_metrics),
            ("log", self.log != new.log),
            ("agent", self.shards != new.shards || self.limits != new.limits),
        ];
        let mut taken = Settings {
            node: self.node.clone(),
            state_dir: self.state_dir.clone(),
            clusters: self.clusters.clone(),
            admin: self.admin,
            file_metrics: self.file_metrics,
            shards: self.shards,
            log: self.log.clone(),
            limits: self.limits.clone(),
            ..new
        };
        taken.entries.allow_paths = self.entries.allow_paths.clone();
        (taken, changed.iter().filter(|(_, changed)| *changed).map(|(key, _)| *key).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Overrides;
    use super::*;
    use std::path::Path;

    #[test]
    fn what_threads_and_sockets_were_made_of_waits_and_the_rest_is_taken() {
        let read = |text: &str| {
            let text = text.replace("KAFKA", "[kafka]\nbrokers = [\"a:1\"]");
            Settings::from_text(Path::new("/t.toml"), &text, &Overrides::default()).unwrap()
        };
        let old = read("node = \"n\"\nKAFKA\n[entries]\ndir = \"/e\"");
        let check = |text: &str, waits: &[&str]| {
            let (taken, said) = old.reloaded(read(text));
            assert_eq!(said, waits, "{text}");
            assert_eq!((&taken.node, &taken.clusters, taken.admin), (&old.node, &old.clusters, old.admin));
            taken
        };
        check("node = \"n\"\nKAFKA\n[entries]\ndir = \"/e\"", &[]);
        let taken = check(
            "node = \"n\"\nlabels = { zone = \"a\" }\nKAFKA\n[entries]\ndir = \"/f\"\nallow_topics = [\"x\"]",
            &[],
        );
        assert_eq!((taken.labels["zone"].as_str(), taken.entries.dir.as_deref()), ("a", Some(Path::new("/f"))));
        assert_eq!(taken.entries.allow_topics_written, ["x"]);
        let all = "node = \"m\"\nstate_dir = \"/s\"\n[kafka]\nbrokers = [\"b:1\"]\n[entries]\nallow_paths = [\"/x/**\"]\n\
            [admin]\nlisten = \"off\"\n[log]\nlevel = \"debug\"\n[agent]\nshards = 1\nbatch_lines = 7";
        check(all, &["node", "state_dir", "kafka, clusters", "entries.allow_paths", "admin", "log", "agent"]);
    }
}
