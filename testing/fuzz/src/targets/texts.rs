//! What people and programs write as text: requests of applications, configurations, URLs, names, and what a
//! target's shell answers.

use std::path::{Component, Path};
use std::str::FromStr;
use std::sync::LazyLock;

use akm_client::{LocalRequest, Reply, decode, encode};
use akm_core::id::{AkmId, RelationshipId};
use akm_element::ElementSpec;
use akm_node::config::Config;
use akm_provision::fuzzing::read_preparation;
use akm_provision::names::{NAME_LENGTH_MAX, Name, Timestamp, parse_duration};
use akm_target::{Architecture, ProcessOutput, Stack, TargetUrl, answer_fields, unit_name};

use super::messages::preparation;
use crate::memory::within;
use crate::reader::Reader;

/// One line of the local API: a request or a reply.
pub fn local_api(bytes: &[u8]) -> bool {
    // JSON that belongs to no field is held as a tree, of which the smallest leaf takes two bytes of text.
    let request: Option<LocalRequest> = within(256, bytes.len(), || serde_json::from_slice(bytes)).ok();
    if let Some(request) = &request {
        let text = serde_json::to_string(request).expect("a request is JSON");
        let again: LocalRequest = serde_json::from_str(&text).expect("what is emitted is read");
        assert_eq!(serde_json::to_string(&again).expect("a request is JSON"), text);
        if let LocalRequest::Send { data, .. } = request
            && let Some(payload) = decode(data)
        {
            assert_eq!(encode(&payload), *data, "Base64 has one form");
        }
    }
    let reply: Option<Reply> = within(256, bytes.len(), || serde_json::from_slice(bytes)).ok();
    if let Some(reply) = &reply {
        let line = reply.line();
        assert_eq!(line.matches('\n').count(), 1, "a reply is one line");
        let again: Reply = serde_json::from_str(&line).expect("what is emitted is read");
        assert_eq!(again.line(), line);
    }
    request.is_some() || reply.is_some()
}

pub fn local_api_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"op":"status"}"#,
        r#"{"op":"send","asr":"line","data":"aGVsbG8="}"#,
        r#"{"op":"listen","asr":"line"}"#,
        r#"{"op":"watch","asr":null}"#,
        r#"{"op":"rotate","asr":"line"}"#,
        r#"{"op":"stop"}"#,
        r#"{"reply":"done"}"#,
        r#"{"reply":"failed","exit_code":2,"error":"no such ASR\u0000\n"}"#,
        r#"{"reply":"message","asr":"line","from":"x","from_name":"","epoch":7,"data":"aGVsbG8="}"#,
        r#"{"reply":"frame","asr":null,"source":"192.0.2.1:1","sender":1,"epoch":2,"counter":3,"verdict":"duplicate","frame":""}"#,
        r#"{"reply":"lost","count":12}"#,
        r#"{"reply":"status","name":"n","akm_id":"","provisioning_relationship_id":"","stack_version":"","integrity_code":"","listen":"","element":"","element_description":{"kind":"card","manufacturer":"","serial":"","firmware":"","hardware":true,"sealed":false,"counter":true},"element_warning":"","unknown_frames":1,"relationships":[{"id":"","name":"","kind":"","generation":1,"epoch":null,"run":0,"phase":"","found_back":2,"sent":0,"accepted":0,"rejected":{"duplicate":1},"members":[{"akm_id":"","name":"","endpoint":null,"heard_seconds_ago":3,"this":true}]}],"damaged":{"a":"b"}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// A configuration that a node reads; and the input as an address and an element of which the module writes
/// one, which the node must read as it was meant.
pub fn configuration(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if let Ok(element) = ElementSpec::from_str(text.lines().next().unwrap_or_default()) {
        let listen = "192.0.2.7:47100";
        let written = akm_provision::fuzzing::configuration(listen, &element);
        let read = Config::parse(&written).unwrap_or_else(|why| panic!("{why}: {written:?}"));
        assert_eq!((read.listen.to_string(), read.element), (listen.to_owned(), element));
        return true;
    }
    // The parser lists every mistake before it gives up, and some bytes are several mistakes.
    let Ok(config) = within(4096, bytes.len(), || Config::parse(text)) else { return false };
    let written = akm_provision::fuzzing::configuration(&config.listen.to_string(), &config.element);
    let again = Config::parse(&written).unwrap_or_else(|why| panic!("{why}: {written:?}"));
    assert_eq!((again.listen, again.element), (config.listen, config.element));
    true
}

pub fn configuration_seeds() -> Vec<Vec<u8>> {
    [
        "listen = \"192.0.2.7:47100\"\nelement = \"software\"\n",
        "# comment\nlisten = '[2001:db8::1]:1'\nelement = \"\"\"\nsoftware:passphrase-file=/etc/\\u00e4\"\"\"\n",
        "software:passphrase-file=/etc/akm/pass \"phrase\" \\ ",
        "software:passphrase-file=/etc/akm/pass\u{7f}",
        "software",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// A target is named by one text only, and its directory is a plain absolute path.
pub fn target_url(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let base = Path::new("/base/dir");
    let parsed = within(64, bytes.len(), || TargetUrl::parse_in(text, base));
    let url = match parsed {
        Ok(url) => url,
        Err(error) => {
            let error = error.to_string();
            assert!(!error.contains('\n') && !error.is_empty(), "one line: {error:?}");
            return false;
        }
    };
    let shown = url.to_string();
    assert_eq!(TargetUrl::parse_in(&shown, Path::new("/elsewhere")), Ok(url.clone()), "{shown:?}");
    check_plain(url.dir());
    assert!(unit_name(url.dir()).bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)));
    if let Some(host) = url.host() {
        for word in [Some(host.host()), host.user()].into_iter().flatten() {
            assert!(!word.is_empty() && !word.starts_with('-'), "ssh would take it for an option: {word:?}");
            assert!(!word.contains(|c: char| c.is_whitespace() || c.is_control()));
        }
        assert_ne!(host.port(), Some(0));
    }
    assert_eq!(url.is_local(), url.host().is_none());
    true
}

fn check_plain(dir: &str) {
    let mut parts = Path::new(dir).components();
    assert_eq!(parts.next(), Some(Component::RootDir), "{dir:?}");
    let mut names = parts.peekable();
    assert!(names.peek().is_some(), "a directory of our own");
    assert!(names.all(|part| matches!(part, Component::Normal(_))), "{dir:?}");
    assert!(!dir.ends_with('/') && !dir.contains("//") && !dir.chars().any(char::is_control), "{dir:?}");
}

pub fn target_url_seeds() -> Vec<Vec<u8>> {
    [
        "local:./n1",
        "local:/srv/akm//x/.",
        "ssh://root@192.0.2.7:22",
        "ssh://admin@boiler2.example:2222/srv/akm",
        "ssh://[2001:db8::7%eth0]:22/opt/akm/",
        "ssh://alias",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// An element comes out as it was written.
pub fn element_spec(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match within(16, bytes.len(), || ElementSpec::from_str(text)) {
        Ok(spec) => {
            assert_eq!(spec.to_string(), text);
            if let ElementSpec::Software { passphrase_file } = spec {
                assert!(passphrase_file.is_none_or(|path| path.is_absolute()));
            }
            true
        }
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "one line: {error:?}");
            false
        }
    }
}

pub fn element_spec_seeds() -> Vec<Vec<u8>> {
    [
        "software",
        "software:passphrase-file=/etc/akm/pass",
        "tpm:device:/dev/tpmrm0,pcrs=0+7",
        "tpm:swtpm:host=127.0.0.1,port=2321",
        "pkcs11:token=akm;serial=1?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/akm/pin",
        "card:Swissbit",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Names, identifiers as text, durations and points in time.
pub fn names(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let name = within(4, bytes.len(), || Name::from_str(text)).ok();
    if let Some(name) = &name {
        assert_eq!(name.as_str(), text);
        assert!((1..=NAME_LENGTH_MAX).contains(&text.len()));
        let parts: Vec<_> = Path::new(text).components().collect();
        assert!(matches!(parts[..], [Component::Normal(_)]), "stays in its directory: {text:?}");
        assert!(
            !text.starts_with(['-', '.'])
                && !text.contains(|c: char| c.is_whitespace() || "'\"\\$`".contains(c))
        );
    }
    let id = AkmId::from_str(text);
    assert_eq!(RelationshipId::from_str(text).is_ok(), id.is_ok());
    if let Ok(id) = id {
        assert_eq!(id.to_string(), text.to_ascii_lowercase(), "an identifier has one text, but for its case");
        assert_eq!(AkmId::from_bytes(*id.as_bytes()), Ok(id));
    }
    let duration = parse_duration(text);
    if let Ok(duration) = duration {
        assert_eq!(parse_duration(&format!("{}ms", duration.as_millis())), Ok(duration));
    }
    if let Some(millis) = bytes.first_chunk() {
        let shown = Timestamp::from_unix_millis(i64::from_be_bytes(*millis)).to_string();
        assert!(shown.ends_with('Z') && shown.contains('T'), "{shown}");
    }
    name.is_some() || id.is_ok() || duration.is_ok()
}

pub fn names_seeds() -> Vec<Vec<u8>> {
    ["pump-3", "Hall_2.east", "0f8fad5b-d9cb-469f-a165-70867728950e", "250ms", "1h", "18446744073709551615ms"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}

static SCRIPT: LazyLock<Stack> = LazyLock::new(|| {
    let place = tempfile::tempdir().expect("a temporary directory can be made");
    let program = place.path().join("akmd");
    std::fs::write(&program, "#!/bin/sh\n").expect("a file can be written there");
    Stack::load(&program).expect("a script is a program")
});

/// A program's header; and a release with any configuration for any directory: its manifest and its archive
/// say the same, and the archive holds four plain files and nothing else.
pub fn stack(bytes: &[u8]) -> bool {
    if let Some(architecture) = within(0, 0, || Architecture::parse(bytes)) {
        assert!(bytes.starts_with(b"#!") || bytes.starts_with(b"\x7fELF"));
        assert!(!architecture.to_string().is_empty());
        assert!(architecture == Architecture::Any || !architecture.may_run_on("Darwin", "x86_64"));
    }
    let mut reader = Reader::new(bytes);
    let length = usize::from(reader.u8());
    let dir = String::from_utf8_lossy(reader.bytes(length)).into_owned();
    let Ok(url) = TargetUrl::parse_in(&format!("local:/{dir}"), Path::new("/")) else { return true };
    let config = String::from_utf8_lossy(reader.rest()).into_owned();
    let release = SCRIPT.release(&config, url.dir());
    assert_eq!(release.id(), &release.manifest_sha256()[..16]);

    let archive = release.archive().expect("an archive in memory can be written");
    let mut entries = tar::Archive::new(&archive[..]);
    let mut contents = Vec::new();
    for entry in entries.entries().expect("it was just written") {
        let mut entry = entry.expect("it was just written");
        assert_eq!(entry.header().entry_type(), tar::EntryType::Regular);
        let path = entry.path().expect("a path").to_str().expect("plain text").to_owned();
        assert!(matches!(Path::new(&path).components().collect::<Vec<_>>()[..], [Component::Normal(_)]));
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("it was just written");
        contents.push((path, entry.header().mode().expect("a mode"), content));
    }
    let text = |name: &str| {
        let content = contents.iter().find(|(path, ..)| path == name).map(|(.., content)| content.clone());
        String::from_utf8(content.expect("the file is there")).expect("it is text")
    };
    assert_eq!(text("akmd.toml"), config);
    let manifest = text("manifest");
    let lines: Vec<&str> = manifest.lines().collect();
    let listed: Vec<String> = release
        .files()
        .iter()
        .filter(|file| file.path != "manifest")
        .map(|file| {
            let sum: String = file.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{sum} {:04o} {}", file.mode, file.path)
        })
        .collect();
    assert_eq!(lines, listed);
    assert_eq!(contents.len(), release.files().len());
    for ((path, mode, content), file) in contents.iter().zip(release.files()) {
        assert_eq!((path.as_str(), *mode), (file.path, file.mode));
        assert_eq!(akm_core::crypto::hash::sha256(&[content]), file.sha256);
    }
    check_unit(&text("akmd.service"), url.dir());
    true
}

/// Whatever the directory is called, the unit has the lines that it was written with and no others.
fn check_unit(unit: &str, dir: &str) {
    let plain = SCRIPT.release("", "/opt/akm");
    let archive = plain.archive().expect("an archive in memory can be written");
    let lines = |unit: &str| unit.lines().count();
    let expected = tar::Archive::new(&archive[..])
        .entries()
        .expect("it was just written")
        .filter_map(Result::ok)
        .find(|entry| entry.path().is_ok_and(|path| path.ends_with("akmd.service")))
        .map(|entry| std::io::read_to_string(entry).expect("it is text"));
    assert_eq!(
        lines(unit),
        lines(&expected.expect("the unit is there")),
        "{dir:?} makes lines of its own: {unit}"
    );
}

pub fn stack_seeds() -> Vec<Vec<u8>> {
    let elf = |class: u8, order: u8| {
        [&b"\x7fELF"[..], &[class, order, 1], &[0; 9], &[3, 0, 62, 0], &[0; 16]].concat()
    };
    vec![
        [&[7], &b"opt/akmlisten = 1"[..]].concat(),
        [&[14], &b"srv/a b/$x \"%'\\element"[..]].concat(),
        [&[8], &b"var/tmp/y"[..]].concat(),
        elf(2, 1),
        elf(1, 2),
        b"#!/bin/sh\n".to_vec(),
    ]
}

/// What a login shell and a script of ours print: nothing that could reach a terminal as it is.
pub fn target_answer(bytes: &[u8]) -> bool {
    // Every line that counts becomes an entry of a map, which takes room for several at once.
    let fields = within(512, bytes.len(), || answer_fields(bytes));
    for (key, value) in &fields {
        assert!(!key.contains(['=', '\n']), "{key:?}");
        assert!(value.chars().count() <= 400 && !value.chars().any(char::is_control), "{value:?}");
        assert_eq!(value.trim(), value);
    }
    let output = ProcessOutput { code: Some(1), stdout: Vec::new(), stderr: bytes.to_vec() };
    let said = output.last_words();
    assert!(
        !said.is_empty() && said.chars().count() <= 400 && !said.chars().any(char::is_control),
        "{said:?}"
    );
    !fields.is_empty() | read_preparation(bytes).is_ok()
}

pub fn target_answer_seeds() -> Vec<Vec<u8>> {
    [
        "Welcome!\nakm:system=Linux\nakm:machine=x86_64\nakm:user=0\nakm:systemd=yes\nakm:dir=absent\n",
        "akm:dir=ours\r\nakm:release=d4964b39b5399051\nakm:free=1000\nakm:missing=\nakm:held=whole\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into_iter()
    .chain([format!("motd\nakm-prepare:{}\r\n", encode(&preparation().emit())).into_bytes()])
    .collect()
}
