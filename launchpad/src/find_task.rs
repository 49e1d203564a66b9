//! Which task is meant by a word: its number, or the id of a molecule in it. Reads the manifest as a stream.

use std::io::Read;

use common::task::{ManifestReader, Molecule, RunId, TaskId};

use crate::error::LaunchpadError;

/// Ids that are offered at most instead of one that is not there.
const NEAR_MAX: usize = 5;

/// Finds a task and its molecules. A number is a task if there is such a task, and else an id like others.
pub(crate) fn find_task(
    run: &RunId,
    word: &str,
    tasks: u64,
    manifest: ManifestReader<impl Read>,
) -> Result<(TaskId, Vec<Molecule>), LaunchpadError> {
    let number = word.parse::<TaskId>().ok();
    if let Some(task) = number.filter(|task| task.0 < tasks) {
        let absent = || LaunchpadError::NoSuchTask { run: run.clone(), task, tasks };
        let position = usize::try_from(task.0).map_err(|_| absent())?;
        return Ok({ manifest }.nth(position).ok_or_else(absent)??);
    }
    let (mut first, mut last, mut count) = (None, TaskId(0), 0);
    let mut near = Vec::new();
    for task in manifest {
        let (task, molecules) = task?;
        near.extend(molecules.iter().map(|molecule| &molecule.id).filter(|id| is_near(id, word)).cloned());
        near.dedup();
        near.truncate(NEAR_MAX);
        if molecules.iter().any(|molecule| molecule.id == word) {
            (last, count) = (task, count + 1);
            first.get_or_insert((task, molecules));
        }
    }
    match (first, number) {
        (Some(found), _) if count == 1 => Ok(found),
        (Some((first, _)), _) => {
            let (run, molecule) = (run.clone(), word.to_owned());
            Err(LaunchpadError::SeveralTasks { run, molecule, tasks: count, first, last })
        }
        (None, Some(task)) => Err(LaunchpadError::NoSuchTask { run: run.clone(), task, tasks }),
        (None, None) => {
            Err(LaunchpadError::NoSuchMolecule { run: run.clone(), molecule: word.to_owned(), near })
        }
    }
}

/// Whether an id could have been meant: one holds the other, whatever their case.
fn is_near(id: &str, word: &str) -> bool {
    let (id, word) = (id.to_lowercase(), word.to_lowercase());
    !word.is_empty() && id.contains(&word) || id.len() > 3 && word.contains(&id)
}

#[cfg(test)]
mod tests {
    use common::task::{ManifestRow, ManifestWriter, MoleculeSource};

    use super::*;

    fn find(word: &str) -> Result<(TaskId, Vec<Molecule>), LaunchpadError> {
        let mut writer = ManifestWriter::new(Vec::new());
        for (task, id) in [(0, "benzene"), (0, "Toluene"), (1, "o-xylene"), (1, "77"), (2, "fep"), (3, "fep")]
        {
            let source = MoleculeSource::Smiles { smiles: "C".into() };
            writer.write(&ManifestRow::new(TaskId(task), &Molecule { id: id.into(), source }, 1)).unwrap();
        }
        let bytes = writer.finish().unwrap();
        find_task(&"r".parse().unwrap(), word, 4, ManifestReader::new(bytes.as_slice()))
    }

    #[test]
    fn a_task_is_found_by_its_number_or_a_molecule() {
        let task = |word: &str| find(word).unwrap().0.0;
        assert_eq!([task("1"), task("Toluene"), task("o-xylene"), task("77")], [1, 0, 1, 1]);
        assert_eq!(find("0").unwrap().1.len(), 2);
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let check = |word: &str, expect: &str, hint: &str| {
            let error = find(word).unwrap_err();
            assert_eq!(error.to_string(), expect);
            assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        };
        check("toluene", "run `r` has no molecule `toluene`", "it has `Toluene`");
        check("xylene", "run `r` has no molecule `xylene`", "it has `o-xylene`");
        check("nothing", "run `r` has no molecule `nothing`", "export");
        check("78", "run `r` has no task 78 (it has 4, from 0)", "from 0 to 3");
        check("fep", "molecule `fep` of run `r` has 2 tasks, 2 to 3", "`launchpad show r 3`");
    }
}
