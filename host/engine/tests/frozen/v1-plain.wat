;; Source of v1-plain.wasm: the line world from a language that knows nothing of components, with the plain names that the
;; host understands. `d…` drops, `r…` is replaced by the rest, `x…` is an error, anything else is kept.
(module
  (memory (export "memory") 1)
  (global $heap (mut i32) (i32.const 1024))
  (func (export "realloc") (param i32 i32 i32) (param $new i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $new)))
    (local.get $at))
  (func (export "line_start") (param $config i32) (param $config_len i32) (result i32) (i32.const 16))
  (func (export "post_line_run") (param i32) (global.set $heap (i32.const 1024)))
  (func (export "line_run") (param $line i32) (param $line_len i32) (result i32)
    (local $verb i32)
    (i64.store (i32.const 32) (i64.const 0))
    (if (local.get $line_len) (then (local.set $verb (i32.load8_u (local.get $line)))))
    (if (i32.eq (local.get $verb) (i32.const 100)) (then (i32.store8 (i32.const 36) (i32.const 1))))
    (if (i32.eq (local.get $verb) (i32.const 114)) (then
      (i32.store8 (i32.const 36) (i32.const 2))
      (i32.store (i32.const 40) (i32.add (local.get $line) (i32.const 1)))
      (i32.store (i32.const 44) (i32.sub (local.get $line_len) (i32.const 1)))))
    (if (i32.eq (local.get $verb) (i32.const 120)) (then
      (i32.store8 (i32.const 32) (i32.const 1))
      (i32.store (i32.const 36) (local.get $line))
      (i32.store (i32.const 40) (local.get $line_len))))
    (i32.const 32)))
