;; Source of v1.1-core.wasm: the line world from a language without a wit-bindgen. It exports the names of 1.0.0, as it did
;; when it was written, and asks what came with 1.1. A line becomes what `generation` says; an empty one becomes the eight
;; bytes of `inode` and the eight of `first-line`.
(module
  (import "tailmill:filter/origin@1.1.0" "inode" (func $inode (result i64)))
  (import "tailmill:filter/origin@1.1.0" "generation" (func $generation (param i32)))
  (import "tailmill:filter/origin@1.1.0" "first-line" (func $first_line (result i64)))
  (memory (export "memory") 1)
  (global $heap (mut i32) (i32.const 1024))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $new i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $new)))
    (local.get $at))
  (func (export "tailmill:filter/line@1.0.0#start") (param $config i32) (param $config_len i32) (result i32) (i32.const 16))
  (func (export "cabi_post_tailmill:filter/line@1.0.0#run") (param i32) (global.set $heap (i32.const 1024)))
  (func (export "tailmill:filter/line@1.0.0#run") (param $line i32) (param $line_len i32) (result i32)
    (i32.store8 (i32.const 36) (i32.const 2))
    (if (local.get $line_len)
      (then (call $generation (i32.const 40)))
      (else
        (i64.store (i32.const 64) (call $inode))
        (i64.store (i32.const 72) (call $first_line))
        (i32.store (i32.const 40) (i32.const 64))
        (i32.store (i32.const 44) (i32.const 16))))
    (i32.const 32)))
