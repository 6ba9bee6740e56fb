//! The documents name everything that an operator can meet, and no test that does not exist; the sources keep the rules
//! of the house that can be counted.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use akm_core::session::{Phase, Rejection};
use akm_provision::view::{NodeStatus, RelationshipState};
use regex::Regex;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Between two headings of a document.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, rest) =
        document.split_once(&format!("{heading}\n")).unwrap_or_else(|| panic!("{heading} is missing"));
    rest.split("\n#").next().expect("a part")
}

/// What stands in backticks in the first cell of a table's rows.
fn first_cells(section: &str) -> BTreeSet<String> {
    let code = Regex::new("`([^`]+)`").expect("a pattern");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    rows.flat_map(|cell| code.captures_iter(cell).map(|found| found[1].to_owned()).collect::<Vec<_>>())
        .collect()
}

fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// All Rust sources below a directory, with what is in them.
fn sources_with_paths(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources_with_paths(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            found.push((path, text));
        }
    }
    found
}

fn sources(directory: &Path) -> Vec<String> {
    sources_with_paths(directory).into_iter().map(|(_, text)| text).collect()
}

/// All Rust sources of the project, by their paths in it.
fn all_sources() -> Vec<(PathBuf, String)> {
    let all: Vec<_> = ["crates", "testing", "examples"]
        .iter()
        .flat_map(|directory| sources_with_paths(&repository().join(directory)))
        .map(|(path, text)| (path.strip_prefix(repository()).expect("a path in it").to_owned(), text))
        // What was built where a package has a workspace of its own.
        .filter(|(path, _)| !path.iter().any(|part| part == "target"))
        .collect();
    assert!(all.len() > 300, "only {} sources were found", all.len());
    all
}

#[test]
fn every_source_file_opens_with_what_it_is() {
    let silent: Vec<_> = all_sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "their first line should say what they are: {silent:#?}");
}

#[test]
fn no_source_file_has_a_name_that_says_nothing() {
    let names = ["utils", "util", "common", "types", "helpers", "helper", "misc"];
    let idle = |path: &PathBuf| {
        let mut parts = path.iter();
        parts.any(|part| names.contains(&part.to_str().unwrap_or_default().trim_end_matches(".rs")))
    };
    let idle: Vec<_> = all_sources().into_iter().map(|(path, _)| path).filter(idle).collect();
    assert!(idle.is_empty(), "{idle:#?}");
}

#[test]
fn no_source_file_is_so_long_that_it_is_about_two_things() {
    const LINES_MAX: usize = 600;
    let is_test = |path: &Path| path.ends_with("tests.rs") || path.iter().any(|part| part == "tests");
    let long: Vec<_> = all_sources()
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        // Tests in the file do not count.
        .map(|(path, text)| {
            (path, text.split("#[cfg(test)]\nmod tests {").next().map_or(0, |text| text.lines().count()))
        })
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "split by concept: {long:#?}");
}

#[test]
fn commands_go_through_the_one_door_of_the_module() {
    let library = repository().join("crates/akm-provision/src");
    let lib = fs::read_to_string(library.join("lib.rs")).expect("the library");
    let rooms = ["keyring", "link", "lock", "mint", "serve", "store", "vault"];
    for room in rooms {
        assert!(lib.contains(&format!("\nmod {room};")), "{room} is no room of the library's own");
    }
    let named = Regex::new(&format!(r"akm_provision::(?:\{{[^}}]*\b)?(?:{}|fuzzing)\b", rooms.join("|")))
        .expect("a pattern");
    let program = sources_with_paths(&repository().join("crates/akm/src"));
    assert!(program.len() > 40, "only {} sources were found", program.len());
    let around: Vec<_> =
        program.into_iter().filter(|(_, text)| named.is_match(text)).map(|(path, _)| path).collect();
    assert!(around.is_empty(), "they go around `Module`: {around:#?}");
}

#[test]
fn every_verdict_phase_and_status_is_explained_and_nothing_else() {
    let operating = read("docs/operating.md");
    let verdicts = Rejection::ALL.iter().map(|reason| reason.name()).chain([
        "accepted",
        "not-recorded",
        "not-taken",
        "old-generation",
    ]);
    assert_eq!(first_cells(section(&operating, "### Dropped frames")), set(verdicts));

    let phases = (0..=u8::MAX).filter_map(Phase::from_number).map(|phase| format!("{phase:?}"));
    assert_eq!(first_cells(section(&operating, "### Phases")), phases.collect());

    let nodes = [NodeStatus::Provisioning, NodeStatus::Active, NodeStatus::Removing].map(NodeStatus::as_str);
    let asrs = [RelationshipState::Creating, RelationshipState::Acknowledged, RelationshipState::Active];
    let statuses = nodes.into_iter().chain(asrs.map(RelationshipState::as_str)).chain(["root", "changing"]);
    let heading = "### Where a node or an ASR stands at the module";
    assert_eq!(first_cells(section(&operating, heading)), set(statuses));
}

#[test]
fn the_exit_codes_are_those_of_the_readme() {
    let codes = |text: &str| -> Vec<u8> {
        let rows = section(text, "## Exit codes")
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
        rows.filter_map(|cell| cell.parse().ok()).collect()
    };
    let documented = codes(&read("README.md"));
    assert_eq!(documented, (0..=10).collect::<Vec<u8>>());
    assert_eq!(codes(&read("docs/operating.md")), documented);
}

#[test]
fn every_warning_and_error_in_the_log_of_a_node_is_explained_and_nothing_else() {
    // The last text in the call is the message.
    let call = Regex::new(r#"\b(?:warn|error)!\(\s*(?:[^";]*,\s*)?"([^"]+)"\s*,?\s*\)"#).expect("a pattern");
    let all = sources(&repository().join("crates/akm-node/src"));
    let calls: usize =
        all.iter().map(|text| text.matches("warn!(").count() + text.matches("error!(").count()).sum();
    // What is filled in stands as three dots in the guide.
    let filled_in = Regex::new(r"\{[^}]*\}").expect("a pattern");
    let messages: Vec<String> = all
        .iter()
        .flat_map(|text| {
            call.captures_iter(text).map(|found| filled_in.replace_all(&found[1], "...").into_owned())
        })
        .collect();
    assert_eq!(messages.len(), calls, "each call was read: {messages:#?}");
    let explained =
        first_cells(section(&read("docs/operating.md"), "### Warnings and errors in the log of a node"));
    assert_eq!(messages.into_iter().collect::<BTreeSet<_>>(), explained);
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let name = Regex::new("`([a-z0-9]+(?:_[a-z0-9]+)+)`").expect("a pattern");
    let model = read("docs/threat-model.md");
    let named: BTreeSet<&str> =
        name.captures_iter(&model).map(|found| found.get(1).expect("a name").as_str()).collect();
    assert!(named.len() > 40, "{named:?}");
    let all = ["crates", "testing"].map(|folder| sources(&repository().join(folder)).join("\n")).join("\n");
    // A story is a test by its name in a list.
    let forms = |name: &str| [format!("fn {name}("), format!("\n    {name},\n"), format!("\n    {name} => ")];
    let exists = |name: &str| forms(name).iter().any(|form| all.contains(form));
    let missing: Vec<&&str> = named.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

#[test]
fn every_query_that_the_threat_model_names_has_its_models_and_nothing_else_has() {
    let threats = read("docs/threat-model.md");
    let row = Regex::new(r"(?m)^\| ([a-z-]+) \|[^|]*\| (?:none|`([a-z-]+)`) \|").expect("a pattern");
    let mut named = BTreeSet::new();
    for found in row.captures_iter(section(&threats, "## 5. Claims")) {
        if let Some(query) = found.get(2) {
            assert_eq!(&found[1], query.as_str(), "a query bears the name of its claim");
            named.insert(query.as_str().to_owned());
        }
    }
    let claim = Regex::new(r"\A(?:// |\(\* )claim: ([a-z-]+)\n").expect("a pattern");
    let mut modelled = BTreeSet::new();
    for entry in fs::read_dir(repository().join("proofs")).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|kind| kind == "vp" || kind == "pv") {
            let text = fs::read_to_string(&path).expect("a model");
            let found = claim.captures(&text).unwrap_or_else(|| panic!("{} names its claim", path.display()));
            modelled.insert(found[1].to_owned());
        }
    }
    assert!(named.len() > 10, "{named:?}");
    assert_eq!(named, modelled);
    assert_eq!(first_cells(section(&read("proofs/README.md"), "## The models")), named);
}

#[test]
fn every_path_that_the_maps_of_the_project_name_exists() {
    let path =
        Regex::new("`((?:crates|testing|docs|examples|scripts)/[A-Za-z0-9_./-]+)`").expect("a pattern");
    for map in ["README.md", "CONTRIBUTING.md", "docs/architecture.md"] {
        let text = read(map);
        let named: BTreeSet<&str> =
            path.captures_iter(&text).map(|found| found.get(1).expect("a path").as_str()).collect();
        let missing: Vec<&&str> = named.iter().filter(|path| !repository().join(path).exists()).collect();
        assert!(!named.is_empty() && missing.is_empty(), "{map} names what does not exist: {missing:#?}");
    }
}

#[test]
fn every_crate_has_its_place_in_the_maps_and_each_question_takes_two_files_at_most() {
    let (readme, architecture) = (read("README.md"), read("docs/architecture.md"));
    let house = first_cells(section(&architecture, "## The house"));
    for street in ["crates", "testing"] {
        for entry in fs::read_dir(repository().join(street)).expect("a directory") {
            let name = entry.expect("an entry").file_name().into_string().expect("a name");
            assert!(readme.contains(&format!("`{street}/{name}`")), "README.md names {street}/{name}");
            assert!(street == "testing" || house.contains(&name), "docs/architecture.md names {name}");
        }
    }
    let code = Regex::new("`[^`]+`").expect("a pattern");
    let questions = section(&architecture, "## Seven questions");
    let rows: Vec<&str> = questions.lines().filter(|line| line.contains("? | `")).collect();
    assert_eq!(rows.len(), 7);
    for row in rows {
        let files = code.find_iter(row.split(" | ").nth(1).expect("the files")).count();
        assert!((1..=2).contains(&files), "{row}");
    }
}
