//! `tailmill state` on stores made for the purpose.

use super::*;
use tailmill_tail::{Evidence, FileId, FileKey};

/// A state directory, and a log file with these bytes whose mark is at `mark`.
struct Scene {
    dir: tempfile::TempDir,
    record: StreamRecord,
}

fn scene(bytes: &[u8], mark: u64) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    std::fs::write(&path, bytes).unwrap();
    let record = StreamRecord {
        entry: "app".into(),
        file: FileId(0xabc << 100),
        path: path.clone(),
        home: path,
        target: None,
        place: FileKey { device: 1, inode: 2, born_ns: None },
        evidence: Evidence::default(),
        resume: ResumePoint::Position { offset: mark },
        partition: None,
        finished: false,
        size_seen: 0,
        updated_ms: 0,
        blocked: None,
        step_over: Vec::new(),
    };
    Scene { dir, record }
}

impl Scene {
    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn store(&self) {
        let mut store = Store::open(&self.state()).unwrap();
        store.commit(Changes { records: std::slice::from_ref(&self.record), ..Changes::default() }).unwrap();
    }

    fn step_over(&self, file: &str, yes: bool) -> Result<String> {
        answer(&StateCommand::StepOver { entry: "app".into(), file: file.into(), yes }, &self.state())
    }

    fn kept(&self) -> StreamRecord {
        Store::open(&self.state()).unwrap().load().unwrap().remove(0)
    }
}

#[test]
fn the_line_at_the_mark_is_shown_then_left_out_and_that_is_recorded() {
    let scene = scene(b"good\nbad \x1b[31mline\r\nnext\n", 5);
    scene.store();
    let path = scene.record.path.to_str().unwrap();
    let text = scene.step_over(path, false).unwrap();
    assert!(text.contains("line") && text.contains("15 bytes at offset 5") && !text.contains('\x1b'), "{text}");
    assert_eq!(scene.kept().resume.offset(), 5, "nothing moves without --yes");
    scene.step_over("0000abc", true).unwrap();
    assert_eq!(scene.kept().resume, ResumePoint::Position { offset: 20 });
    let done = Store::open(&scene.state()).unwrap().stepped_over().unwrap();
    assert_eq!((done.len(), done[0].offset, done[0].bytes), (1, 5, 15));
    let shown = answer(&StateCommand::Show { json: false }, &scene.state()).unwrap();
    assert!(shown.contains("offset 20") && shown.contains("stepped over: app"), "{shown}");
}

#[test]
fn a_blocking_line_behind_the_mark_is_left_out_without_the_lines_before_it() {
    let mut scene = scene(b"held\nbad\nnext\n", 0);
    scene.record.blocked = Some(5);
    scene.store();
    scene.step_over("0000abc", true).unwrap();
    let kept = scene.kept();
    assert_eq!((kept.resume.offset(), kept.step_over, kept.blocked), (0, vec![5], None));
}

#[test]
fn what_cannot_be_stepped_over_says_why_and_changes_nothing() {
    let check = |scene: &Scene, file: &str, expected: &str| {
        let error = format!("{:#}", scene.step_over(file, true).unwrap_err());
        assert!(error.contains(expected), "{error}");
        assert_eq!(scene.kept(), scene.record);
    };
    let mut scene = scene(b"one\n", 4);
    scene.store();
    check(&scene, "0000abc", "the file ends there");
    check(&scene, "/no/such.log", "knows no file");
    std::fs::write(&scene.record.path, "one\nhalf a li").unwrap();
    check(&scene, "0000abc", "has no end yet");
    scene.record.evidence =
        Evidence { at: 2, prefix_len: 2, prefix_hash: 1, window_len: 2, window_hash: 1, ..Evidence::default() };
    scene.store();
    check(&scene, "0000abc", "not the file that was read");
    std::fs::remove_file(&scene.record.path).unwrap();
    check(&scene, "0000abc", "while opening it");
    let other = StateCommand::StepOver { entry: "web".into(), file: "x".into(), yes: true };
    let error = answer(&other, &scene.state()).unwrap_err().to_string();
    assert!(error.contains("nothing is known of an entry \"web\""), "{error}");
}

#[test]
fn two_files_of_one_path_are_told_apart_by_id() {
    let scene = scene(b"one\n", 0);
    let second = StreamRecord { file: FileId(7), ..scene.record.clone() };
    let mut store = Store::open(&scene.state()).unwrap();
    store.commit(Changes { records: &[scene.record.clone(), second.clone()], ..Changes::default() }).unwrap();
    drop(store);
    let error = scene.step_over(scene.record.path.to_str().unwrap(), true).unwrap_err().to_string();
    assert!(error.contains(&second.file.to_string()) && error.contains(&scene.record.file.to_string()), "{error}");
    scene.step_over(&second.file.to_string(), true).unwrap();
}

#[test]
fn while_an_agent_runs_every_command_points_to_it() {
    let scene = scene(b"one\n", 0);
    scene.store();
    let agent = Store::open(&scene.state()).unwrap();
    for command in [StateCommand::Show { json: true }, StateCommand::Repair] {
        let error = format!("{:#}", answer(&command, &scene.state()).unwrap_err());
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    }
    drop(agent);
    answer(&StateCommand::Repair, &scene.state()).unwrap();
}

#[test]
fn a_directory_without_a_store_is_an_error_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for command in [StateCommand::Show { json: false }, StateCommand::Repair] {
        answer(&command, dir.path()).unwrap_err();
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn json_holds_everything_but_the_state_bytes() {
    let scene = scene(b"one\n", 3);
    scene.store();
    let text = answer(&StateCommand::Show { json: true }, &scene.state()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["streams"][0]["resume"], serde_json::json!({ "kind": "position", "offset": 3 }));
    assert_eq!((&json["format_version"], &json["entries_seen"]), (&serde_json::json!(1), &serde_json::json!([])));
}
