//! What the programs say, as recorded: texts, JSON and exit codes.
//!
//! `cmd/*.trycmd` are commands that touch nothing. `cmd/stories/*.md` are whole stories with a module and
//! nodes; see [`support::story`]. `TRYCMD=overwrite` records both anew; read the difference before you
//! commit it.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use support::story;

fn tests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cmd")
}

#[test]
fn commands_that_touch_nothing() {
    trycmd::TestCases::new()
        .register_bin("akm", PathBuf::from(support::plant::AKM))
        .env("AKM_HOME", "")
        .env("COLUMNS", "100")
        .case("tests/cmd/*.trycmd");
}

/// One test for each story, so that they run at the same time and fail by name.
macro_rules! stories {
    ($($name:ident),* $(,)?) => {
        const STORIES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                story::check(&tests_dir().join("stories").join(concat!(stringify!($name), ".md")));
            }
        )*
    };
}

stories! {
    the_main_path,
    without_a_module,
    what_is_refused_before_anything_happens,
    a_device_of_another_module,
    an_element_that_refuses,
    a_node_that_is_not_what_it_should_be,
    parked,
    a_group_that_changes,
    not_reachable,
    a_node_that_is_renewed,
    held_by_another_command,
    a_vault_under_a_passphrase,
    the_stack_alone,
}

#[test]
fn every_story_is_told() {
    let files = fs::read_dir(tests_dir().join("stories")).expect("the stories");
    let found: BTreeSet<String> = files
        .map(|file| file.expect("a story").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(found, STORIES.iter().map(|name| (*name).to_owned()).collect());
}

/// The exit codes of the table in the README, by program.
fn documented_exit_codes() -> BTreeSet<(&'static str, i32)> {
    let readme = fs::read_to_string(tests_dir().join("../../../../README.md")).expect("the README");
    let rows = readme.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let &[code, akm, akmd] = cells.as_slice() else { return None };
        Some((code.parse::<i32>().ok()?, akm.to_owned(), akmd.to_owned()))
    });
    let mut codes = BTreeSet::new();
    for (code, akm, akmd) in rows {
        codes.extend((!akm.is_empty()).then_some(("akm", code)));
        codes.extend((!akmd.is_empty()).then_some(("akmd", code)));
    }
    codes
}

#[test]
fn every_documented_exit_code_is_recorded_and_every_recorded_one_is_documented() {
    let mut recorded = BTreeSet::new();
    let node = Path::new(env!("CARGO_MANIFEST_DIR")).join("../akm-node/tests/cmd");
    for directory in [tests_dir(), tests_dir().join("stories"), node] {
        for file in fs::read_dir(directory).expect("recorded cases") {
            let path = file.expect("a file").path();
            if path.is_file() {
                let text = fs::read_to_string(&path).expect("recorded cases");
                recorded.extend(story::exit_codes(&text));
            }
        }
    }
    let documented = documented_exit_codes();
    assert!(documented.len() > 10, "the table was found: {documented:?}");
    assert_eq!(recorded, documented);
}

/// The commands that a recorded help lists, and those whose own help is recorded.
fn check_each_command_has_its_help(program: &str, recorded: &str) {
    let mut path = String::new();
    let mut is_listing = false;
    let mut listed = BTreeSet::new();
    let mut shown = BTreeSet::new();
    for line in recorded.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            path = command.trim_end_matches(" --help").trim_end_matches(" -h").to_owned();
            shown.insert(path.clone());
        }
        is_listing = (is_listing && !line.is_empty()) || line == "Commands:";
        if let Some(name) =
            line.strip_prefix("  ").filter(|_| is_listing).and_then(|line| line.split(' ').next())
            && !["", "help"].contains(&name)
        {
            listed.insert(format!("{path} {name}"));
        }
    }
    assert!(listed.len() > 4, "{program} has commands: {listed:?}");
    shown.remove(program);
    assert_eq!(shown, listed, "commands of {program}");
    let examples = recorded.lines().filter(|line| line.starts_with("Example")).count();
    let helps = recorded.lines().filter(|line| line.starts_with("$ ")).count();
    assert_eq!(examples, helps, "every help has examples");
}

#[test]
fn the_help_of_every_command_is_recorded_and_has_examples() {
    let node = Path::new(env!("CARGO_MANIFEST_DIR")).join("../akm-node/tests/cmd");
    for (program, directory) in [("akm", tests_dir()), ("akmd", node)] {
        let recorded = fs::read_to_string(directory.join("help.trycmd")).expect("recorded cases");
        check_each_command_has_its_help(program, &recorded);
    }
}
