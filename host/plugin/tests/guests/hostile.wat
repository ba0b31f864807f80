;; Every interface, exported and imported, and every misbehaviour.
;;
;; `on-batch` does what the batch's sequence says:
;;   0..99   nothing                       100  trap, after a line on stderr
;;   101     loop for ever                 102  take memory until refused, trap
;;   104     refuse event 0 with code 7    105  refuse event 999
;;   106     a result of 2^28 refusals     107  10,000 log lines
;;   108     send "t" / "hello" to "out"   109  forward to "out"
;;   110     sleep for an hour             111  exit
;;   112     count in a metric             113  refuse event 0, code 1 if the clock stands
;;   114     open pollables for ever       115  ask for preopened directories
;;   116     sleep for 2 ms                117  hand 1 MiB to `log` 64 times
;;   118     skip a number of "out"
;; 108, 109 and 118 refuse event 0 with the error's code, if there is one.
;;
;; `init` looks at the third byte of its config: t trap, l loop, e error, s sleep.
;; `on-source` traps when a source joins whose number is 13.
;; `find` answers by `by`: 0 a row for the source joined last, holding as many
;; tokens as were asked; 1 a row for source 999; 2 an error.
;; `handle` echoes. `tick` (every 20 ms) counts in the metric "ticks".
(module
  (import "penstock:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))
  (import "penstock:plugin/metrics@0.1.0" "add" (func $add (param i32 i32 i64)))
  (import "penstock:plugin/clock@0.1.0" "now" (func $now (result i64)))
  (import "penstock:plugin/publish@0.1.0" "send"
    (func $send (param i32 i32 i32 i32 i32 i32 i32)))
  (import "penstock:plugin/publish@0.1.0" "forward" (func $forward (param i32 i32 i32 i32 i32)))
  (import "penstock:plugin/publish@0.1.0" "skip" (func $skip (param i32 i32 i32)))
  (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration"
    (func $timer (param i64) (result i32)))
  (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:io/poll@0.2.6" "[resource-drop]pollable" (func $drop (param i32)))
  (import "wasi:cli/exit@0.2.6" "exit" (func $exit (param i32)))
  (import "wasi:cli/stderr@0.2.6" "get-stderr" (func $stderr (result i32)))
  (import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush"
    (func $write (param i32 i32 i32 i32)))
  (import "wasi:filesystem/preopens@0.2.6" "get-directories" (func $dirs (param i32)))
  (import "wasi:filesystem/types@0.2.6" "[method]descriptor.read-via-stream"
    (func $unused (param i32 i64 i32)))

  (memory (export "memory") 20)
  (global $top (mut i32) (i32.const 8192))
  (global $source (mut i32) (i32.const 0))
  (data (i32.const 16) "hostile2.0")
  (data (i32.const 32) "told so")
  (data (i32.const 48) "out")
  (data (i32.const 56) "t")
  (data (i32.const 60) "hello")
  (data (i32.const 72) "about to die\n")
  (data (i32.const 88) "ticks")
  (data (i32.const 96) "batches")

  (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (if (i32.gt_u (i32.add (global.get $top) (local.get 3)) (i32.const 1300000))
      (then (global.set $top (i32.const 8192))))
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
    (global.set $top (i32.add (local.get $at) (local.get 3)))
    (local.get $at))

  (func (export "penstock:plugin/guest@0.1.0#describe") (result i32)
    (i32.store (i32.const 128) (i32.const 16)) (i32.store (i32.const 132) (i32.const 7))
    (i32.store (i32.const 136) (i32.const 23)) (i32.store (i32.const 140) (i32.const 3))
    (i32.store (i32.const 144) (i32.const 0xffffff21)) (i32.store (i32.const 148) (i32.const 3))
    (i32.const 128))

  (func (export "penstock:plugin/guest@0.1.0#init") (param $p i32) (param $n i32) (result i32)
    (local $how i32)
    (i32.store8 (i32.const 160) (i32.const 0))
    (if (i32.gt_u (local.get $n) (i32.const 2))
      (then (local.set $how (i32.load8_u offset=2 (local.get $p)))))
    (if (i32.eq (local.get $how) (i32.const 116)) (then (call $die)))
    (if (i32.eq (local.get $how) (i32.const 108)) (then (loop $l (br $l))))
    (if (i32.eq (local.get $how) (i32.const 115)) (then (call $sleep (i64.const 3600000000000))))
    (if (i32.eq (local.get $how) (i32.const 101))
      (then
        (i32.store8 (i32.const 160) (i32.const 1))
        (i32.store (i32.const 164) (i32.const 32)) (i32.store (i32.const 168) (i32.const 7))))
    (i32.const 160))

  (func $die
    (call $write (call $stderr) (i32.const 72) (i32.const 13) (i32.const 176))
    unreachable)

  (func $sleep (param $ns i64)
    (local $pollable i32)
    (local.set $pollable (call $timer (local.get $ns)))
    (call $block (local.get $pollable))
    (call $drop (local.get $pollable)))

  ;; A list of one refusal, at 256.
  (func $refuse (param $event i32) (param $code i32)
    (i32.store (i32.const 256) (i32.const 264)) (i32.store (i32.const 260) (i32.const 1))
    (i32.store (i32.const 264) (local.get $event)) (i32.store (i32.const 268) (local.get $code)))

  (func $refuse_on_error (param $result i32)
    (if (i32.load8_u (local.get $result))
      (then (call $refuse (i32.const 0) (i32.load offset=4 (local.get $result))))))

  (func (export "penstock:plugin/guest@0.1.0#on-batch") (param $batch i32) (result i32)
    (local $do i32) (local $i i32)
    (local.set $do (i32.load offset=8 (local.get $batch)))
    (i32.store (i32.const 256) (i32.const 0)) (i32.store (i32.const 260) (i32.const 0))
    (if (i32.eq (local.get $do) (i32.const 100)) (then (call $die)))
    (if (i32.eq (local.get $do) (i32.const 101)) (then (loop $l (br $l))))
    (if (i32.eq (local.get $do) (i32.const 102))
      (then
        (loop $l
          (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        unreachable))
    (if (i32.eq (local.get $do) (i32.const 104))
      (then (call $refuse (i32.const 0) (i32.const 7))))
    (if (i32.eq (local.get $do) (i32.const 105))
      (then (call $refuse (i32.const 999) (i32.const 7))))
    (if (i32.eq (local.get $do) (i32.const 106))
      (then (i32.store (i32.const 260) (i32.const 0x10000000))))
    (if (i32.eq (local.get $do) (i32.const 107))
      (then
        (loop $l
          (call $log (i32.const 2) (i32.const 32) (i32.const 7))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $l (i32.lt_u (local.get $i) (i32.const 10000))))))
    (if (i32.eq (local.get $do) (i32.const 108))
      (then
        (call $send (i32.const 48) (i32.const 3) (i32.const 56) (i32.const 1)
          (i32.const 60) (i32.const 5) (i32.const 192))
        (call $refuse_on_error (i32.const 192))))
    (if (i32.eq (local.get $do) (i32.const 109))
      (then
        (call $forward (i32.const 48) (i32.const 3) (i32.const 56) (i32.const 1) (i32.const 192))
        (call $refuse_on_error (i32.const 192))))
    (if (i32.eq (local.get $do) (i32.const 118))
      (then
        (call $skip (i32.const 48) (i32.const 3) (i32.const 192))
        (call $refuse_on_error (i32.const 192))))
    (if (i32.eq (local.get $do) (i32.const 110))
      (then (call $sleep (i64.const 3600000000000))))
    (if (i32.eq (local.get $do) (i32.const 111)) (then (call $exit (i32.const 1))))
    (if (i32.eq (local.get $do) (i32.const 112))
      (then (call $add (i32.const 96) (i32.const 7) (i64.const 1))))
    (if (i32.eq (local.get $do) (i32.const 113))
      (then (call $refuse (i32.const 0) (i64.eqz (call $now)))))
    (if (i32.eq (local.get $do) (i32.const 114))
      (then (loop $l (drop (call $timer (i64.const 0))) (br $l))))
    (if (i32.eq (local.get $do) (i32.const 115))
      (then
        (call $dirs (i32.const 192))
        (call $refuse (i32.const 0) (i32.load (i32.const 196)))))
    (if (i32.eq (local.get $do) (i32.const 116)) (then (call $sleep (i64.const 2000000))))
    (if (i32.eq (local.get $do) (i32.const 117))
      (then
        (loop $l
          (call $log (i32.const 2) (i32.const 0) (i32.const 1048576))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $l (i32.lt_u (local.get $i) (i32.const 64))))))
    (i32.const 256))

  (func (export "penstock:plugin/guest@0.1.0#on-source") (param $change i32)
    (if (i32.eqz (i32.load8_u offset=4 (local.get $change)))
      (then
        (global.set $source (i32.load (local.get $change)))
        (if (i32.eq (global.get $source) (i32.const 13)) (then (call $die))))))

  ;; query: model, adapter, salt, by at 24, tokens at 28, hashes at 36: flat.
  (func (export "penstock:plugin/lookup@0.1.0#find")
    (param i32 i32 i32 i32 i32 i32) (param $by i32)
    (param $tokens i32) (param $count i32) (param i32 i32) (result i32)
    (if (i32.eq (local.get $by) (i32.const 2))
      (then
        (i32.store8 (i32.const 320) (i32.const 1))
        (i32.store (i32.const 324) (i32.const 32)) (i32.store (i32.const 328) (i32.const 7))
        (return (i32.const 320))))
    (i32.store8 (i32.const 320) (i32.const 0))
    (i32.store (i32.const 324) (i32.const 352)) (i32.store (i32.const 328) (i32.const 8))
    (i32.store (i32.const 352) (global.get $source)) (i32.store (i32.const 356) (i32.const 0))
    (i32.store (i32.const 360) (i32.const 1)) (i32.store (i32.const 364) (local.get $count))
    (i32.store (i32.const 368) (local.get $count)) (i32.store (i32.const 372) (i32.const 0))
    (i32.store (i32.const 376) (i32.const 0)) (i32.store (i32.const 380) (i32.const 0))
    (if (i32.eq (local.get $by) (i32.const 1))
      (then (i32.store (i32.const 352) (i32.const 999))))
    (i32.const 320))

  (func (export "penstock:plugin/request@0.1.0#handle") (param $p i32) (param $n i32) (result i32)
    (i32.store8 (i32.const 400) (i32.const 0))
    (i32.store (i32.const 404) (local.get $p)) (i32.store (i32.const 408) (local.get $n))
    (i32.const 400))

  (func (export "penstock:plugin/tick@0.1.0#interval") (result i32) (i32.const 20))
  (func (export "penstock:plugin/tick@0.1.0#tick")
    (call $add (i32.const 88) (i32.const 5) (i64.const 1)))

  ;; One piece, "hello", then none; a piece of a megabyte for source 999.
  (func (export "penstock:plugin/state@0.1.0#snapshot")
    (param $source i32) (param $cursor i64) (param $max i32) (result i32)
    (i32.store8 (i32.const 432) (i32.const 0))
    (i32.store (i32.const 440) (i32.const 60)) (i32.store (i32.const 444) (i32.const 5))
    (if (i32.eq (local.get $source) (i32.const 999))
      (then (i32.store (i32.const 444) (i32.const 1048576))))
    (i32.store8 (i32.const 448) (i64.eqz (local.get $cursor)))
    (i64.store (i32.const 456) (i64.const 5))
    (i32.const 432))

  ;; Schema 3 alone is understood.
  (func (export "penstock:plugin/state@0.1.0#restore")
    (param $source i32) (param $schema i32) (param i32 i32) (result i32)
    (i32.store8 (i32.const 480) (i32.ne (local.get $schema) (i32.const 3)))
    (i32.store (i32.const 484) (i32.const 32)) (i32.store (i32.const 488) (i32.const 7))
    (i32.const 480)))
