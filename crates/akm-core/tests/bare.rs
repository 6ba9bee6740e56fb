//! The core runs where there is no standard library: `examples/bare` is a program without one, with an
//! allocator and a panic handler of its own. If the core or anything below it needed `std`, it would not
//! build: the two panic handlers would meet.

use std::path::Path;
use std::process::Command;

#[test]
fn two_sessions_talk_in_a_program_without_the_standard_library() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/bare/Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare");
    // The compiler of this build, also where a dependency's own directory names another toolchain.
    let compiler = Path::new(env!("CARGO")).with_file_name("rustc");
    let mut build = Command::new(env!("CARGO"));
    if compiler.is_file() {
        build.env("RUSTC", compiler);
    }
    let built = build
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .output()
        .expect("cargo can be started");
    assert!(built.status.success(), "it does not build:\n{}", String::from_utf8_lossy(&built.stderr));

    let ran = Command::new(target.join("debug/akm-bare")).output().expect("the program can be started");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(ran.status.code(), Some(0), "{said}");
    assert!(said.starts_with("the two have talked"), "{said}");
}
