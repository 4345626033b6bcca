//! What may be loaded and what not, and what is said about it.

use crate::guests::{self, Guest, obedient_line};
use crate::support::{LIMITS, engine, load, run, shown, start, surroundings};
use tailmill_engine::{Compiled, Digest, LoadError, World, wrap};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

fn refusal(wasm: &[u8]) -> LoadError {
    engine().load(wasm).err().expect("a refusal")
}

/// Built against another text of the contract, with its metadata inside.
fn built_with(guest: &Guest, change: impl Fn(String) -> String) -> Vec<u8> {
    // The guests name 1.0.0, which `change` may make another one.
    let text = change(include_str!("../../../../wit/filter.wit").replace("@1.1.0;", "@1.0.0;"));
    let mut resolve = Resolve::default();
    let package = resolve.push_source("other.wit", &text).unwrap_or_else(|error| panic!("{error:#}\n{text}"));
    let world = if guest.is_line { "line-filter" } else { "batch-filter" };
    let world = resolve.select_world(&[package], Some(world)).expect("the world");
    let mut wasm = wat::parse_str(change(guest.text())).expect("text of a module");
    embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8).expect("metadata");
    wasm
}

#[test]
fn bytes_that_are_no_webassembly_are_refused() {
    for bytes in [b"".as_slice(), b"\0", b"hello", b"\x7fELF\x02\x01\x01", b"\0asm", b"\0asm\x63\0\0\0", &[0; 4096]] {
        let refused = refusal(bytes);
        assert!(matches!(refused, LoadError::NotWasm { .. }), "{refused}");
        assert!(refused.to_string().starts_with("not a WebAssembly module or component: "), "{refused}");
    }
}

#[test]
fn a_truncated_module_is_refused_wherever_it_ends() {
    for wasm in [guests::batch().wasm(), wrap(&guests::batch().wasm()).expect("a component")] {
        for end in (0..wasm.len()).step_by(wasm.len() / 64) {
            let refused = refusal(&wasm[..end]);
            // A core module that ends between two sections is whole, but lacks something.
            assert!(
                matches!(refused, LoadError::NotWasm { .. } | LoadError::WrongWorld { .. } | LoadError::Compile(_)),
                "{end}: {refused}"
            );
        }
    }
}

#[test]
fn a_module_of_another_world_is_refused_with_what_it_exports() {
    let wasm = wat::parse_str("(module (func (export \"main\")) (memory (export \"memory\") 1))").expect("text");
    let refused = refusal(&wasm);
    assert_eq!(
        refused.to_string(),
        "not a filter: it exports main, memory, and neither tailmill:filter/batch@1 nor tailmill:filter/line@1; build it for \
         the world batch-filter or line-filter of tailmill:filter@1"
    );
    let empty = refusal(&wat::parse_str("(component)").expect("text"));
    assert!(empty.to_string().contains("it exports nothing"), "{empty}");
}

#[test]
fn an_import_that_a_filter_does_not_get_is_named() {
    let import = |module: &str| format!("(import \"{module}\" \"f\" (func $f))");
    for module in
        ["env", "wasi_unstable", "tailmill:filter/host@2.0.0", "wasi:sockets/tcp@0.2.0", "tailmill:filter/files@1.0.0"]
    {
        let guest = guests::batch().imports(&import(module));
        let run = format!("(call $f) {}", guest.run);
        let refused = refusal(&guest.run(&run).wasm());
        assert_eq!(refused, LoadError::UnknownImport { names: vec![module.to_owned()] });
    }
}

#[test]
fn an_import_of_a_component_that_a_filter_does_not_get_is_named() {
    for name in ["wasi:http/handler@0.3.0", "other:thing/x@1.0.0", "wasi:cli/stdin@1.0.0"] {
        let text = format!(
            "(component (import \"{name}\" (instance (export \"f\" (func)))) (instance $none)
               (export \"tailmill:filter/batch@1.0.0\" (instance $none)))"
        );
        let refused = refusal(&wat::parse_str(text).expect("text"));
        assert_eq!(refused, LoadError::UnknownImport { names: vec![name.to_owned()] });
    }
}

#[test]
fn a_function_that_a_later_host_has_is_named() {
    let later = |text: String| {
        text.replace("@1.0.0", "@1.5.0").replace("now: func() -> u64;", "now: func() -> u64; later: func();")
    };
    let guest = guests::batch().imports("(import \"tailmill:filter/host@1.0.0\" \"later\" (func $later))");
    let run = format!("(call $later) {}", guest.run);
    let refused = refusal(&built_with(&guest.run(&run), later));
    assert_eq!(refused, LoadError::UnknownImport { names: vec!["tailmill:filter/host@1.5.0#later".to_owned()] });
}

#[test]
fn every_minor_version_of_the_contract_runs_and_no_other_major_one() {
    let version = |version: &'static str| move |text: String| text.replace("@1.0.0", version);
    for guest in [guests::batch(), guests::line()] {
        let guest = guest.imports("(import \"tailmill:filter/host@1.0.0\" \"now\" (func $now (result i64)))");
        let body = format!("(drop (call $now)) {}", guest.run);
        let guest = guest.run(&body);
        for minor in ["@1.0.0", "@1.0.7", "@1.5.0"] {
            let mut instance = start(&built_with(&guest, version(minor)));
            assert_eq!(shown(&run(&mut instance, 0, &["a"]).expect("an answer").outcome), "keep all");
        }
        for major in ["@0.9.0", "@2.0.0"] {
            assert!(matches!(refusal(&built_with(&guest, version(major))), LoadError::WrongWorld { .. }), "{major}");
        }
    }
}

#[test]
fn system_calls_of_preview1_are_answered_in_every_minor_version() {
    for version in ["@1.0.0", "@1.1.0", "@1.5.0"] {
        let guest = guests::batch().imports(
            "(import \"wasi_snapshot_preview1\" \"sched_yield\" (func $yield (result i32)))
             (import \"tailmill:filter/host@1.0.0\" \"log\" (func $log (param i32 i32 i32)))",
        );
        let body = format!("(call $log (call $yield) (i32.const 0) (i32.const 0)) {}", guest.run);
        let guest = guest.run(&body);
        let bare = wat::parse_str(guest.text().replace("@1.0.0", version)).expect("text");
        for wasm in [bare, built_with(&guest, |text| text.replace("@1.0.0", version))] {
            let exported = load(&wasm).exports();
            assert_eq!(exported, [format!("tailmill:filter/batch{version}")]);
            let mut instance = start(&wasm);
            assert_eq!(shown(&run(&mut instance, 0, &["a"]).expect("an answer").outcome), "keep all");
            assert_eq!(instance.take_notes().logs.len(), 1);
        }
    }
}

#[test]
fn another_type_under_the_right_name_is_refused() {
    let guest = guests::batch();
    let narrow = |text: String| {
        text.replace("run: func(first: u64, lines: lines)", "run: func(first: u32, lines: lines)")
            .replace("(param $first i64)", "(param $first i32)")
    };
    let refused = refusal(&built_with(&guest, narrow));
    assert!(matches!(refused, LoadError::WrongSignature { .. }), "{refused}");
    assert!(
        refused.to_string().contains("its tailmill:filter/batch@1.0.0 is not the contract's: run has another type"),
        "{refused}"
    );
}

#[test]
fn a_core_module_and_its_component_are_the_same_filter_under_two_digests() {
    let core = obedient_line().wasm();
    let component = wrap(&core).expect("a component");
    assert_eq!(wrap(&component).expect("a component"), component);
    for wasm in [core, component] {
        let module = load(&wasm);
        assert_eq!(module.digest(), Digest::of(&wasm));
        assert_eq!(module.size_bytes(), wasm.len());
        assert_eq!(module.world(), World::Line);
        assert_eq!(module.compiled(), &Compiled::InProcess);
        assert_eq!(shown(&run(&mut start(&wasm), 0, &["k", "d"]).expect("an answer").outcome), "keep 0");
    }
}

#[test]
fn plain_names_are_understood_for_languages_that_have_no_others() {
    for (guest, interface) in [(guests::batch(), "batch"), (guests::line(), "line")] {
        let text = guest
            .text()
            .replace("cabi_realloc", "realloc")
            .replace(&format!("cabi_post_tailmill:filter/{interface}@1.0.0#"), &format!("post_{interface}_"))
            .replace(&format!("tailmill:filter/{interface}@1.0.0#"), &format!("{interface}_"));
        assert!(!text.contains('#'), "{text}");
        let mut instance = start(&wat::parse_str(text).expect("text"));
        assert_eq!(shown(&run(&mut instance, 0, &["a"]).expect("an answer").outcome), "keep all");
    }
}

#[test]
fn names_of_several_minor_versions_are_understood_in_one_module() {
    let state = "(func (export \"tailmill:filter/state@1.1.0#save\") (result i32) (i32.const 512))
        (func (export \"tailmill:filter/state@1.1.0#load\") (param i32 i32) (result i32) (i32.const 512))";
    let guest = guests::batch().traits(false, &[], false).more(state);
    let module = load(&guest.wasm());
    assert!(module.has_state());
    assert_eq!(module.exports(), ["tailmill:filter/batch@1.1.0", "tailmill:filter/state@1.1.0"]);
    let mut instance = start(&guest.wasm());
    assert_eq!(shown(&run(&mut instance, 0, &["a"]).expect("an answer").outcome), "keep all");
    assert_eq!(instance.save(), Ok(Some(Vec::new())));
}

#[test]
fn a_module_that_does_not_validate_is_refused_with_the_reason() {
    let text = guests::batch().more("(func (result i32) (i64.const 1))").text();
    let refused = refusal(&wat::parse_str(text).expect("text"));
    assert!(matches!(&refused, LoadError::Compile(why) if why.contains("type mismatch")), "{refused}");
}

#[test]
fn a_module_without_an_allocator_is_refused_with_the_reason() {
    let text = guests::batch().text().replace("(export \"cabi_realloc\")", "");
    let refused = refusal(&wat::parse_str(text).expect("text"));
    assert!(matches!(&refused, LoadError::Compile(why) if why.contains("realloc")), "{refused}");
}

#[test]
fn a_filter_of_both_worlds_takes_the_fast_lane() {
    let guest = guests::batch().more(&format!(
        "(func (export \"{}start\") (param i32 i32) (result i32) unreachable)
         (func (export \"{}run\") (param i32 i32) (result i32) unreachable)",
        guests::LINE,
        guests::LINE
    ));
    assert_eq!(load(&guest.wasm()).world(), World::Batch);
}

#[test]
fn the_config_reaches_the_filter_and_its_refusal_the_caller() {
    // Refuses with its config as the message.
    for mut guest in [guests::batch(), guests::line()] {
        let answer = guest.image.place(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let guest = guest.start(&format!(
            "(i32.store offset=4 (i32.const {answer}) (local.get $config))
             (i32.store offset=8 (i32.const {answer}) (local.get $config_len)) (i32.const {answer})"
        ));
        let fault = load(&guest.wasm()).start("{\"a\":1}", &LIMITS, &surroundings(), true).err().expect("a fault");
        assert_eq!((fault.kind, fault.message.as_str()), (tailmill_engine::FaultKind::Refused, "{\"a\":1}"));
    }
}

#[test]
fn the_line_lane_is_as_stateless_as_its_entry_says() {
    let module = load(&guests::line().wasm());
    for stateless in [true, false] {
        let instance = module.start("{}", &LIMITS, &surroundings(), stateless).expect("a start");
        assert_eq!(instance.traits().stateless, stateless);
    }
}

#[test]
fn modules_go_from_thread_to_thread() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<tailmill_engine::Engine>();
    shared::<tailmill_engine::Module>();
    sent::<tailmill_engine::Instance>();
}
