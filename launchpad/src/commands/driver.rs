//! `driver`: the scripts that ship, publishing one, and comparing one with what a run is pinned to.

use std::path::Path;

use common::digest::sha256_hex;
use common::storage::{Creation, StorageError, Store, key};
use common::task::RunId;
use serde::Serialize;
use similar::TextDiff;

use super::Context;
use crate::cli;
use crate::drivers::{self, DriverError, SHIPPED, Shipped, shipped};
use crate::error::LaunchpadError;
use crate::output::{Report, Table, thousands};

/// Does what a `driver` command line says.
pub(super) async fn driver(context: &Context, arguments: &cli::Driver) -> Result<(), LaunchpadError> {
    match arguments {
        cli::Driver::List => {
            let drivers = SHIPPED.iter().map(listed).collect();
            context.output.report(&ShippedList { drivers })?;
        }
        cli::Driver::Show { name } => {
            let Shipped { name, text, .. } = *shipped(name)?;
            context.output.report(&ShownDriver { name, sha256: sha256_hex(text.as_bytes()), text })?;
        }
        cli::Driver::Publish { file } => publish(context, file).await?,
        cli::Driver::Diff { file, run } => diff(context, file, run).await?,
    }
    Ok(())
}

/// One of the scripts that ship.
#[derive(Debug, Serialize)]
struct ListedDriver {
    name: &'static str,
    purpose: &'static str,
    bytes: u64,
    sha256: String,
}

#[derive(Debug, Serialize)]
struct ShippedList {
    drivers: Vec<ListedDriver>,
}

fn listed(shipped: &Shipped) -> ListedDriver {
    let Shipped { name, purpose, text } = *shipped;
    ListedDriver { name, purpose, bytes: text.len() as u64, sha256: sha256_hex(text.as_bytes()) }
}

impl Report for ShippedList {
    fn text(&self) -> String {
        let mut table = Table::new(&["name", ">bytes", "sha256", "for"]);
        for driver in &self.drivers {
            let cells = [driver.name, &thousands(driver.bytes), &driver.sha256[..12], driver.purpose];
            table.row(cells.map(str::to_owned));
        }
        table.to_string()
    }
}

#[derive(Debug, Serialize)]
struct ShownDriver {
    name: &'static str,
    sha256: String,
    text: &'static str,
}

impl Report for ShownDriver {
    fn text(&self) -> String {
        self.text.to_owned()
    }
}

/// A script in the store.
#[derive(Debug, Serialize)]
struct PublishedDriver {
    /// What `push --driver` takes.
    driver: String,
    sha256: String,
    bytes: u64,
    store: String,
    /// Whether it was there already.
    found: bool,
}

impl Report for PublishedDriver {
    fn text(&self) -> String {
        let found = if self.found { "It was there already.\n" } else { "" };
        format!("sha256   {}\nstore    {}\ndriver   {}\n{found}", self.sha256, self.store, self.driver)
    }
}

async fn publish(context: &Context, file: &Path) -> Result<(), LaunchpadError> {
    let bytes = drivers::read(file)?;
    let sha256 = sha256_hex(&bytes);
    let object = key::published_driver(&sha256, &drivers::file_name(file));
    let store_url = context.location.store_url(None)?;
    let size = bytes.len() as u64;
    let found = match Store::open(&store_url)?.drivers().create(&object, bytes).await? {
        Creation::New => false,
        Creation::Same => true,
        Creation::Differs(stored) => {
            let theirs = sha256_hex(&stored);
            return Err(StorageError::Digest { object, url: store_url, theirs, ours: sha256 }.into());
        }
    };
    let name = object.rsplit('/').next().unwrap_or_default();
    let driver = drivers::reference(&sha256, name);
    context.output.report(&PublishedDriver { driver, sha256, bytes: size, store: store_url, found })
}

/// A script beside the one of a run.
#[derive(Debug, Serialize)]
struct DriverDiff {
    run: RunId,
    /// The object of the run's driver.
    object: String,
    same: bool,
    pinned_sha256: String,
    file_sha256: String,
    /// From the run's driver to the file; empty if they are the same.
    diff: String,
}

impl Report for DriverDiff {
    fn text(&self) -> String {
        if self.same {
            return format!("The same: {}\n", self.pinned_sha256);
        }
        self.diff.clone()
    }
}

async fn diff(context: &Context, file: &Path, run: &RunId) -> Result<(), LaunchpadError> {
    let ours = drivers::read(file)?;
    let info = context.location.queue()?.run_info(run).await?;
    let pinned =
        info.spec.drivers.values().next().ok_or_else(|| DriverError::None { run: run.clone() })?.clone();
    let file_sha256 = sha256_hex(&ours);
    let same = file_sha256 == pinned.sha256;
    let diff = if same {
        String::new()
    } else {
        let theirs = context.location.run_store(&info.store, run)?.read(&pinned.object).await?;
        unified(&theirs, &ours, &pinned.object, &file.display().to_string())
    };
    context.output.report(&DriverDiff {
        run: run.clone(),
        object: pinned.object,
        same,
        pinned_sha256: pinned.sha256.clone(),
        file_sha256: file_sha256.clone(),
        diff,
    })?;
    if same {
        return Ok(());
    }
    let (file, run) = (file.to_owned(), run.clone());
    Err(DriverError::Differs { file, run, theirs: pinned.sha256, ours: file_sha256 }.into())
}

/// The changed lines with their surroundings, in the format of `diff -u`.
fn unified(theirs: &[u8], ours: &[u8], their_name: &str, our_name: &str) -> String {
    let [theirs, ours] = [theirs, ours].map(String::from_utf8_lossy);
    TextDiff::from_lines(&*theirs, &*ours).unified_diff().header(their_name, our_name).to_string()
}
