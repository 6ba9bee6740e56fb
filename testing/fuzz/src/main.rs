//! Runs one target. Built for libFuzzer (`--cfg fuzzing`) it is libFuzzer, and the target is named in
//! `AKM_FUZZ_TARGET`; built as usual it runs single inputs:
//!
//! ```text
//!   akm-fuzz list              the targets
//!   akm-fuzz seeds TARGET DIR  writes inputs to start from
//!   akm-fuzz TARGET FILE...    runs the target on each file
//! ```

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod libfuzzer {
    use std::sync::OnceLock;

    use akm_fuzz::{Target, find};

    static TARGET: OnceLock<&'static Target> = OnceLock::new();

    libfuzzer_sys::fuzz_target!(
        init: {
            let name = std::env::var("AKM_FUZZ_TARGET").expect("AKM_FUZZ_TARGET names the target");
            let target = find(&name).expect("AKM_FUZZ_TARGET names one of the targets");
            TARGET.set(target).ok().expect("libFuzzer starts once");
        },
        |bytes: &[u8]| {
            (TARGET.get().expect("set at the start").run)(bytes);
        }
    );
}

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    use std::path::Path;
    use std::process::ExitCode;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["list"] => {
            akm_fuzz::TARGETS.iter().for_each(|target| println!("{}", target.name));
            Ok(())
        }
        ["seeds", name, dir] => with(name, |target| write_seeds(target, Path::new(dir))),
        [name, ref files @ ..] if !files.is_empty() => with(name, |target| {
            files.iter().try_for_each(|file| {
                let bytes = std::fs::read(file).map_err(|error| format!("cannot read {file}: {error}"))?;
                let verdict = if (target.run)(&bytes) { "accepted" } else { "refused" };
                println!("{file}: {verdict}");
                Ok(())
            })
        }),
        _ => Err("usage: akm-fuzz list | akm-fuzz seeds TARGET DIR | akm-fuzz TARGET FILE...".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(fuzzing))]
fn with(name: &str, run: impl FnOnce(&akm_fuzz::Target) -> Result<(), String>) -> Result<(), String> {
    run(akm_fuzz::find(name).ok_or_else(|| format!("there is no target {name}; see: akm-fuzz list"))?)
}

#[cfg(not(fuzzing))]
fn write_seeds(target: &akm_fuzz::Target, dir: &std::path::Path) -> Result<(), String> {
    (target.seeds)().iter().enumerate().try_for_each(|(number, seed)| {
        let path = dir.join(format!("seed-{number:02}"));
        std::fs::write(&path, seed).map_err(|error| format!("cannot write {}: {error}", path.display()))
    })
}
