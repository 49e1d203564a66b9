//! The commands that README and docs tell people to type are typed here: in a shell, against the real programs.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A folder with a user's files, and a `PATH` with the programs.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("a user's desk ").tempdir().unwrap();
        let programs = folder.path().join("bin");
        fs::create_dir(&programs).unwrap();
        symlink(env!("CARGO_BIN_EXE_launchpad-under-test"), programs.join("launchpad")).unwrap();
        symlink(env!("CARGO_BIN_EXE_worker-under-test"), programs.join("worker")).unwrap();
        let example = document("examples/t4l-l99a");
        fs::copy(example.join("receptor.pdb"), folder.path().join("receptor.pdb")).unwrap();
        fs::copy(example.join("benzene.sdf"), folder.path().join("pose.sdf")).unwrap();
        fs::write(folder.path().join("ligands.smi"), "c1ccccc1 benzene\nOc1ccccc1 phenol\n").unwrap();
        Self { folder }
    }

    /// Types a line, and gives what it printed.
    fn type_line(&self, line: &str, variables: &[(&str, &str)]) -> String {
        #[expect(clippy::disallowed_methods, reason = "tests start programs")]
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(self.folder.path());
        shell.env("PATH", format!("{}:/usr/bin:/bin", self.folder.path().join("bin").display()));
        shell.env("MOLFLEET_SCRATCH", self.folder.path().join("scratch"));
        shell.env("MOLFLEET_CACHE", self.folder.path().join("cache"));
        shell.env_remove("MOLFLEET_REDIS").env_remove("MOLFLEET_STORE");
        let output = shell.envs(variables.iter().copied()).output().unwrap();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "`{line}` ended with {}: {stdout}{stderr}", output.status);
        assert!(!stdout.starts_with("ERR") && !stdout.contains("(error)"), "`{line}`: {stdout}");
        stdout
    }

    fn port(&self) -> String {
        let url = fs::read_to_string(self.folder.path().join(".molfleet/redis/url")).unwrap();
        url.trim().rsplit(':').next().unwrap().to_owned()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.type_line("launchpad local down", &[]);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// The lines of a document's code blocks that start with one of these programs.
fn commands(name: &str, programs: &[&str]) -> Vec<String> {
    let page = fs::read_to_string(document(name)).unwrap();
    let blocks = page.split("\n```").skip(1).step_by(2);
    let lines =
        blocks.flat_map(str::lines).filter(|line| programs.iter().any(|program| line.starts_with(program)));
    lines.map(str::to_owned).collect()
}

/// The fields and values that `redis-cli hgetall` prints.
fn hash(printed: &str) -> BTreeMap<String, String> {
    let lines: Vec<&str> = printed.lines().collect();
    lines.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
}

#[test]
fn the_readme_leads_from_a_receptor_to_a_table() {
    let desk = Desk::new();
    let typed = commands("README.md", &["launchpad ", "worker "]);
    assert!(typed.len() >= 6, "{typed:?}");
    for line in &typed {
        desk.type_line(line, &[]);
    }
    let table = fs::read_to_string(desk.folder.path().join("results.csv")).unwrap();
    assert_eq!(table.lines().count(), 3, "{table}");

    let port = desk.port();
    let looked = commands("README.md", &["redis-cli "]);
    assert!(looked.len() >= 4, "{looked:?}");
    for line in &looked {
        let printed = desk.type_line(line, &[("PORT", &port)]);
        assert!(!printed.trim().is_empty(), "`{line}` prints nothing");
        if line.contains(":progress") {
            let status = desk.type_line("launchpad status first --json", &[]);
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            for (counter, value) in hash(&printed) {
                assert_eq!(status[&counter].to_string(), value, "{counter}");
            }
        }
    }
    // What operations.md tells to look at, for a run that is there.
    let looked = commands("docs/operations.md", &["redis-cli ", "launchpad status"]);
    assert!(looked.len() >= 7, "{looked:?}");
    for line in looked.iter().filter(|line| !line.contains("--watch")) {
        let line = if line.starts_with("launchpad") { line.replace("RUN", "first") } else { line.clone() };
        desk.type_line(&line, &[("URL", &format!("redis://127.0.0.1:{port}")), ("RUN", "first")]);
    }
}

#[test]
fn the_drivers_page_leads_from_a_script_to_a_table() {
    let desk = Desk::new();
    let page = fs::read_to_string(document("docs/drivers.md")).unwrap();
    let script = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    fs::write(desk.folder.path().join("count.py"), script).unwrap();
    desk.type_line("launchpad local up", &[]);
    // The command that is ready to be pasted.
    let said = desk.type_line("launchpad local status", &[]);
    let command = said.split('`').nth(1).unwrap();
    assert_eq!(desk.type_line(&format!("{command} ping"), &[]), "PONG\n", "{said}");
    let typed = commands("docs/drivers.md", &["launchpad ", "worker "]);
    for line in &typed {
        // The page ends with comparing a changed script with the driver of a run: that it differs is an error.
        let line = line.replace(" RUN ", " count ");
        let line = if line.contains("driver diff") { format!("! {line}") } else { line };
        desk.type_line(&line, &[]);
    }
    assert!(typed.len() >= 7, "{typed:?}");
    let table = fs::read_to_string(desk.folder.path().join("counted.csv")).unwrap();
    let rows: Vec<&str> = table.lines().map(|line| line.rsplit_once(',').unwrap().0).collect();
    let header = "task_id,molecule_id,smiles,verdict,reason,score,score_unit,letters,detail";
    assert_eq!(rows, [header, "0,benzene,c1ccccc1,ok,,,,6,", "0,phenol,Oc1ccccc1,ok,,,,7,"]);
}

#[test]
fn the_table_of_exit_codes_has_all_of_them() {
    let page = fs::read_to_string(document("docs/operations.md")).unwrap();
    let section = page.split("\n## Exit codes\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let codes: Vec<u8> = cells.filter_map(|cell| cell.parse().ok()).collect();
    assert_eq!(codes, common::exit_code::ALL);
}

#[test]
fn the_protocol_page_agrees_with_status() {
    let desk = Desk::new();
    desk.type_line("launchpad local up", &[]);
    let push = "launchpad push ligands.smi --run first --receptor receptor.pdb --box-ligand pose.sdf --confirm-after-ms 0";
    desk.type_line(push, &[]);
    desk.type_line("launchpad pause first --why maintenance", &[]);
    let (port, run) = (desk.port(), "first");
    let progress = commands("docs/protocol.md", &["redis-cli "]);
    let progress =
        progress.iter().find(|line| line.contains("HGETALL") && line.contains(":progress")).unwrap();
    let printed = desk.type_line(progress, &[("PORT", &port), ("RUN", run)]);
    let status: serde_json::Value =
        serde_json::from_str(&desk.type_line("launchpad status first --json", &[])).unwrap();
    let counters = hash(&printed);
    assert_eq!(counters["pending"], "2");
    for (counter, value) in counters {
        assert_eq!(status[&counter].to_string(), value, "{counter}");
    }
    assert_eq!((status["why"].as_str(), status["paused"].as_str()), (Some("paused"), Some("maintenance")));
}
