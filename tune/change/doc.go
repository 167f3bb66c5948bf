// Package change changes a host's settings and always finds the way back: plan → apply → confirm, verify, revert.
//
//	setting.go    one setting: its kind, key and value, and when two values are the same
//	host.go       where settings are read and written: a tree (/, or a copy), network devices
//	device_linux.go  rings, queues, offloads, MTU, qdisc of the live host
//	check.go      what the kernel would refuse, as far as reading tells
//	plan.go       the plan file, for people to read and edit; decode.go reads it back strictly
//	state.go      lock, snapshot and journal: what survives a crash
//	apply.go      snapshot, watcher, then each setting: journal, write, read back
//	revert.go     the way back, from any point
//	confirm.go    the persistent form (persist.go), and the settings at boot
//	watch.go      the process that reverts unless it is told that all is well
//	verify.go     what has drifted
//
// The state directory holds at most one change that waits for its confirmation (pending.json, and its journal), and one
// record of all that was confirmed (confirmed.json). The invariant: a value is written only after its old value, and then
// the intent to write it, are on the disk. So the records tell at any point what may have been written and what was there.
// Nothing of an unconfirmed change outlives a reboot: the persistent form is written at the confirmation.
package change
