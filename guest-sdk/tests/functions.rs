//! `#[filter]` on functions: shapes of signature, what each verdict becomes, and that batches are answered cheaply.

use tailmill_filter::prelude::*;
use tailmill_filter::testing::{self, Sent, World};
use tailmill_filter::{Column, Filter, Outcome};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Word {
    word: String,
}

#[filter]
fn only_config(line: &[u8], config: &Word) -> Verdict {
    if line.starts_with(config.word.as_bytes()) { Verdict::Drop } else { Verdict::Keep }
}

/// Says of which file the line is.
#[filter]
fn of_which_file(_line: &[u8], ctx: &mut Ctx) -> Verdict {
    Verdict::Replace(format!("{:?} {} {:?}", ctx.inode(), ctx.generation(), ctx.first_line()).into_bytes())
}

#[filter]
fn by_bool(line: &[u8]) -> bool {
    line != b"x"
}

/// Does what the line says.
#[filter]
fn obey(line: &[u8], ctx: &mut Ctx) -> Result<Verdict, String> {
    Ok(match line {
        b"drop" => Verdict::Drop,
        b"replace" => Verdict::Replace(b"new".to_vec()),
        b"two" => {
            ctx.emit(b"one of two").key(b"k1").header("level", b"low");
            ctx.emit_with(|out| {
                out.extend(b"two of ");
                out.push(b'2');
            })
            .topic("errors");
            Verdict::Emitted
        }
        b"before" => {
            ctx.emit(b"first");
            Verdict::Keep
        }
        b"emitted nothing" => Verdict::Emitted,
        b"key" => {
            ctx.set_key(b"thrown away");
            ctx.set_key(b"k");
            Verdict::Keep
        }
        b"key of a dropped line" => {
            ctx.set_key(b"nobody's");
            Verdict::Drop
        }
        b"topic" => {
            ctx.set_topic("errors");
            Verdict::Keep
        }
        b"bad topic" => {
            ctx.set_topic("secrets");
            Verdict::Keep
        }
        b"time" => {
            ctx.set_timestamp_ms(-5);
            Verdict::Replace(b"timed".to_vec())
        }
        b"headers" => {
            ctx.set_header("a", b"1");
            ctx.set_header("b", b"");
            Verdict::Keep
        }
        b"fault" => return Err("cannot read this".into()),
        b"hold" => {
            let _held = ctx.hold();
            Verdict::Hold
        }
        b"hold nothing" => Verdict::Hold,
        _ => Verdict::Keep,
    })
}

/// Lines come out as `line` or `line@source`, with key, topic, time and headers where they have any.
fn show(sent: &Sent) -> String {
    let mut text = sent.text();
    if let Some(key) = &sent.key {
        text += &format!(" key={}", String::from_utf8_lossy(key));
    }
    if sent.topic != "main" {
        text += &format!(" topic={}", sent.topic);
    }
    if let Some(time) = sent.timestamp_ms {
        text += &format!(" time={time}");
    }
    for (name, value) in &sent.headers {
        text += &format!(" {name}={}", String::from_utf8_lossy(value));
    }
    text
}

fn two_topics() -> World {
    World { topics: vec!["main".into(), "errors".into()], ..World::default() }
}

#[test]
fn a_filter_learns_of_which_file_its_lines_are() {
    let said = |world: World| {
        let mut tester = testing::start_in::<of_which_file>(world, "{}").expect("start");
        tester.run(&["a"]).expect("no fault")[0].text()
    };
    let known = World { inode: 7, generation: "5f0c".into(), first_line: 100, ..World::default() };
    assert_eq!(said(known), "Some(7) 5f0c Some(100)");
    let unknown = World { inode: 0, generation: String::new(), first_line: 0, ..World::default() };
    assert_eq!(said(unknown), "None  None");
}

/// Runs `lines` through `obey`, in one batch and one by one; `wanted` is what comes out.
fn check(lines: &[&str], wanted: &[&str]) {
    for size in [1, 2, lines.len()] {
        let mut tester = testing::start_in::<obey>(two_topics(), "{}").expect("start");
        let sent: Vec<Sent> = lines.chunks(size).flat_map(|batch| tester.run(batch).expect("no fault")).collect();
        assert_eq!(sent.iter().map(show).collect::<Vec<_>>(), wanted, "in batches of {size}: {lines:?}");
        let sources: Vec<&str> = sent.iter().map(|sent| lines[sent.source as usize]).collect();
        assert!(sources.iter().zip(&sent).all(|(from, sent)| comes_from(from, &sent.text())), "{sources:?} {sent:?}");
    }
}

fn comes_from(input: &str, output: &str) -> bool {
    match input {
        "replace" => output == "new",
        "two" => output.contains("two"),
        "before" => ["first", "before"].contains(&output),
        "time" => output == "timed",
        other => other == output,
    }
}

fn check_fault(line: &str, wanted: &str) {
    let mut tester = testing::start_in::<obey>(two_topics(), "{}").expect("start");
    tester.run(&["a", "b"]).expect("no fault");
    let fault = tester.run(&["keep", line, "keep"]).expect_err(line);
    assert_eq!((fault.line, fault.message.as_str()), (Some(3), wanted));
}

#[test]
fn every_verdict_becomes_what_it_says() {
    check(&["a", "drop", "b"], &["a", "b"]);
    check(&["a", "drop", "replace", "b", "c"], &["a", "new", "b", "c"]);
    check(&["a", "two", "b"], &["a", "one of two key=k1 level=low", "two of 2 topic=errors", "b"]);
    check(&["a", "before", "drop", "", "b"], &["a", "first", "before", "", "b"]);
    check(&["a", "emitted nothing", "b"], &["a", "b"]);
    check(&["replace"], &["new"]);
    check(&["drop"], &[]);
}

#[test]
fn what_is_set_on_a_line_goes_with_that_line_only() {
    check(&["a", "key", "b"], &["a", "key key=k", "b"]);
    check(&["key of a dropped line", "a"], &["a"]);
    check(&["key of a dropped line", "replace", "a"], &["new", "a"]);
    check(&["topic", "a", "topic"], &["topic topic=errors", "a", "topic topic=errors"]);
    check(&["a", "time", "b", "time"], &["a", "timed time=-5", "b", "timed time=-5"]);
    check(
        &["a", "headers", "two", "headers"],
        &["a", "headers a=1 b=", "one of two key=k1 level=low", "two of 2 topic=errors", "headers a=1 b="],
    );
}

#[test]
fn a_fault_names_the_line_in_its_stream() {
    check_fault("fault", "cannot read this");
    check_fault("bad topic", "topic `secrets` is not one of the entry's topics (main, errors)");
    check_fault("hold", "a stateless filter cannot hold a line");
    check_fault("hold nothing", "the filter said it holds the line, but no `Held` of it lives");
}

#[test]
fn a_function_may_take_a_config_and_answer_with_a_bool() {
    assert_eq!(testing::texts::<only_config>(r#"{"word": "de"}"#, ["debug", "info"]), ["info"]);
    assert_eq!(testing::texts::<by_bool>("{}", ["x", "y"]), ["y"]);
    assert_eq!(
        testing::start::<by_bool>(r#"{"a": 1}"#).err().as_deref(),
        Some("unknown field `a`, there are no fields")
    );
    assert_eq!(testing::start::<only_config>("{}").err().as_deref(), Some("missing field `word`"));
}

fn outcome<F: Filter>(lines: &[&str]) -> Outcome {
    testing::start::<F>("{}").expect("start").answer(lines).expect("no fault").outcome
}

#[test]
fn a_batch_is_answered_in_the_cheapest_way() {
    assert_eq!(outcome::<by_bool>(&["a", "b"]), Outcome::KeepAll);
    assert_eq!(outcome::<by_bool>(&["x", "x"]), Outcome::DropAll);
    assert_eq!(outcome::<by_bool>(&["a", "x", "b"]), Outcome::Keep(vec![0b101]));
    assert_eq!(outcome::<obey>(&["emitted nothing"]), Outcome::DropAll);
    let long: Vec<&str> = (0..130).map(|at| if at % 64 == 1 { "x" } else { "a" }).collect();
    let mut mask = vec![0xff; 17];
    (mask[0], mask[8], mask[16]) = (0b1111_1101, 0b1111_1101, 0b01);
    assert_eq!(outcome::<by_bool>(&long), Outcome::Keep(mask));
}

#[test]
fn a_column_that_every_line_has_needs_no_bits() {
    let Outcome::Emit(output) = outcome::<obey>(&["key", "key"]) else { panic!("rows") };
    assert_eq!(output.keys, Some(Column { present: vec![], data: b"kk".to_vec(), ends: vec![1, 0, 0, 0, 2, 0, 0, 0] }));
    let Outcome::Emit(output) = outcome::<obey>(&["a", "key", "b"]) else { panic!("rows") };
    let ends = vec![0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0];
    assert_eq!(output.keys, Some(Column { present: vec![0b010], data: b"k".to_vec(), ends }));
    assert!(output.topics.is_empty() && output.timestamps_ms.is_empty() && output.headers.is_empty());
}

#[filter(needles = ["error", b"\xff"])]
fn only_errors(line: &[u8]) -> bool {
    !line.ends_with(b"!")
}

#[filter(needles = ["secret"], keep_skipped)]
fn hide(line: &[u8]) -> Verdict {
    Verdict::Replace(vec![b'*'; line.len()])
}

#[test]
fn lines_without_a_needle_are_skipped() {
    let lines: [&[u8]; 5] = [b"an error", b"fine", b"error!", b"\xff", b"errror"];
    assert_eq!(testing::texts::<only_errors>("{}", lines), ["an error", "\u{fffd}"]);
    assert_eq!(testing::texts::<hide>("{}", ["a", "secrets", "b"]), ["a", "*******", "b"]);
}
