//! What `akmd` says where there is no node, as recorded: texts and exit codes.
//!
//! `TRYCMD=overwrite` records them anew; read the difference before you commit it. What needs a node is
//! recorded beside the module, which makes one.

#[test]
fn commands_without_a_node() {
    trycmd::TestCases::new()
        .register_bin("akmd", std::path::PathBuf::from(env!("CARGO_BIN_EXE_akmd")))
        .env("COLUMNS", "100")
        .case("tests/cmd/*.trycmd");
}
