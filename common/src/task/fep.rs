//! What a run of the engine `gromacs-fep` computes: how the solute is charged, through which windows it is decoupled from the water,
//! and how long each is; and which task of a run is which window. Pure.

use serde::{Deserialize, Serialize};

use super::mmgbsa::whole_steps;
use super::{ChargeModel, TaskId};

/// Windows of a molecule at most: each is a task.
const WINDOWS_MAX: usize = 100;
/// Windows of a schedule by number at least: two for the charges and two for the rest.
const SCHEDULE_MIN: usize = 4;
/// Of 13 windows, how many are for the charges alone, the coupled state among them.
const COULOMB_OF_13: usize = 3;
/// Edges of the box, in nm: above twice the range of the forces, also when its density is found, and far from what fills a disk.
const BOX_NM: std::ops::RangeInclusive<f64> = 2.0..=20.0;
/// The longest window, in ps.
const PS_MAX: f64 = 1e6; // 1 µs

/// Parameters of the engine `gromacs-fep`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FepOptions {
    /// Where the solute's partial charges come from.
    pub charges: ChargeModel,
    /// Of each window, how far the charges are decoupled, from 0 to 1.
    pub lambdas_coulomb: Vec<f64>,
    /// Of each window, how far the van der Waals forces are decoupled, from 0 to 1.
    pub lambdas_vdw: Vec<f64>,
    /// Length of a window in ps, a whole number, from 1.
    pub window_ps: f64,
    /// What of its beginning does not count, in ps, below its length.
    pub discard_ps: f64,
    /// Length of the dynamics that bring the box to its density, in ps, a multiple of 0.002 above 0.
    pub equilibration_ps: f64,
    /// Edge of the cubic box in nm.
    pub box_nm: f64,
}

/// What a task of a run does for its molecule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FepPart {
    /// One window, from 0.
    Window(usize),
    /// The free energy from all windows.
    Reduction,
}

impl FepPart {
    /// The word in the manifest and in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Window(_) => "window",
            Self::Reduction => "reduction",
        }
    }

    /// The window's number.
    pub const fn window(self) -> Option<usize> {
        match self {
            Self::Window(number) => Some(number),
            Self::Reduction => None,
        }
    }
}

/// Says why the parameters of `gromacs-fep` can't be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FepError {
    /// Too few or too many windows for a schedule.
    #[error(
        "windows is {found} (expected {SCHEDULE_MIN} to {WINDOWS_MAX}, or lambdas_coulomb and lambdas_vdw)"
    )]
    Windows {
        /// How many were asked for.
        found: usize,
    },
    /// The two lists don't describe the same windows.
    #[error(
        "lambdas_coulomb has {coulomb} windows and lambdas_vdw {vdw} (expected the same number, 2 to {WINDOWS_MAX})"
    )]
    Lengths {
        /// Entries of the one.
        coulomb: usize,
        /// Entries of the other.
        vdw: usize,
    },
    /// Not a way from coupled to decoupled.
    #[error(
        "{name} is no way from 0 to 1: {found} follows {before} (expected neither to fall nor to leave 0 to 1)"
    )]
    Way {
        /// The list.
        name: &'static str,
        /// An entry.
        found: f64,
        /// The one before.
        before: f64,
    },
    /// Two windows are one.
    #[error("windows {first} and {second} are the same")]
    Same {
        /// The earlier one.
        first: usize,
        /// The later one.
        second: usize,
    },
    /// A length or an edge that can't be one.
    #[error("{name} is {found} (expected {expected})")]
    Number {
        /// The parameter.
        name: &'static str,
        /// Its value.
        found: f64,
        /// What would be one.
        expected: &'static str,
    },
    /// There is no default driver on a worker.
    #[error("the run has no driver")]
    NoDriver,
}

impl FepOptions {
    /// A schedule of so many windows: first the charges, then the van der Waals forces, evenly; of 13 windows 3 and 10.
    pub fn schedule(windows: usize) -> Result<(Vec<f64>, Vec<f64>), FepError> {
        if !(SCHEDULE_MIN..=WINDOWS_MAX).contains(&windows) {
            return Err(FepError::Windows { found: windows });
        }
        let charges = ((windows * COULOMB_OF_13 + 6) / 13).max(2);
        // Four digits, as a person would write them.
        let part = |n: usize, of: usize| (n as f64 / of as f64 * 1e4).round() / 1e4;
        let rest = windows - charges;
        let coulomb = (0..windows).map(|n| part(n.min(charges - 1), charges - 1)).collect();
        let vdw = (0..windows).map(|n| part((n + 1).saturating_sub(charges), rest)).collect();
        Ok((coulomb, vdw))
    }

    /// Windows of a molecule.
    pub const fn windows(&self) -> usize {
        self.lambdas_vdw.len()
    }

    /// Tasks of a molecule: its windows, and the reduction that waits for them.
    pub const fn group_tasks(&self) -> u64 {
        self.windows() as u64 + 1
    }

    /// What a task does.
    pub fn part(&self, task: TaskId) -> FepPart {
        match usize::try_from(task.0 % self.group_tasks()) {
            Ok(window) if window < self.windows() => FepPart::Window(window),
            _ => FepPart::Reduction,
        }
    }

    /// The first task of a task's group, whose number stands for the molecule.
    pub const fn first_of_group(&self, task: TaskId) -> TaskId {
        TaskId(task.0 - task.0 % self.group_tasks())
    }

    /// The steps of a window.
    pub fn window_steps(&self) -> u64 {
        whole_steps(self.window_ps)
    }

    /// The steps of the equilibration.
    pub fn equilibration_steps(&self) -> u64 {
        whole_steps(self.equilibration_ps)
    }

    /// Checks each parameter and their relations.
    pub fn validate(&self, has_driver: bool) -> Result<(), FepError> {
        let (coulomb, vdw) = (self.lambdas_coulomb.len(), self.lambdas_vdw.len());
        if coulomb != vdw || !(2..=WINDOWS_MAX).contains(&vdw) {
            return Err(FepError::Lengths { coulomb, vdw });
        }
        check_way("lambdas_coulomb", &self.lambdas_coulomb)?;
        check_way("lambdas_vdw", &self.lambdas_vdw)?;
        let points: Vec<_> = self.lambdas_coulomb.iter().zip(&self.lambdas_vdw).collect();
        if let Some(first) = points.windows(2).position(|pair| pair[0] == pair[1]) {
            return Err(FepError::Same { first, second: first + 1 });
        }
        let refuse = |name, found, expected| Err(FepError::Number { name, found, expected });
        if !(1.0..=PS_MAX).contains(&self.window_ps) || self.window_ps.fract() != 0.0 {
            return refuse("window_ps", self.window_ps, "a whole number from 1 to 1000000");
        }
        if !(0.0..self.window_ps).contains(&self.discard_ps) {
            return refuse("discard_ps", self.discard_ps, "0 or more, and less than window_ps");
        }
        if self.equilibration_steps() == 0 {
            return refuse("equilibration_ps", self.equilibration_ps, "a multiple of 0.002 above 0");
        }
        if !BOX_NM.contains(&self.box_nm) {
            return refuse("box_nm", self.box_nm, "2 to 20");
        }
        if has_driver { Ok(()) } else { Err(FepError::NoDriver) }
    }
}

/// A way from 0 to 1 that never falls.
fn check_way(name: &'static str, lambdas: &[f64]) -> Result<(), FepError> {
    let ends = std::iter::once(&0.0).chain(lambdas).zip(lambdas.iter().chain([&1.0]));
    for (number, (before, found)) in ends.enumerate() {
        let is_end = number == 0 || number == lambdas.len();
        // NaN is in no order.
        let is_fine = if is_end { (before - found).abs() < f64::EPSILON } else { before <= found };
        if !is_fine || !(0.0..=1.0).contains(found) {
            return Err(FepError::Way { name, found: *found, before: *before });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> FepOptions {
        let (lambdas_coulomb, lambdas_vdw) = FepOptions::schedule(13).unwrap();
        FepOptions {
            charges: ChargeModel::default(),
            lambdas_coulomb,
            lambdas_vdw,
            window_ps: 20.0,
            discard_ps: 2.0,
            equilibration_ps: 10.0,
            box_nm: 2.2,
        }
    }

    #[test]
    fn a_schedule_decouples_charges_first() {
        let options = options();
        assert_eq!(options.lambdas_coulomb[..4], [0.0, 0.5, 1.0, 1.0]);
        assert_eq!(options.lambdas_vdw[..5], [0.0, 0.0, 0.0, 0.1, 0.2]);
        for windows in SCHEDULE_MIN..=WINDOWS_MAX {
            let (lambdas_coulomb, lambdas_vdw) = FepOptions::schedule(windows).unwrap();
            let options = FepOptions { lambdas_coulomb, lambdas_vdw, ..options.clone() };
            assert_eq!((options.windows(), options.validate(true)), (windows, Ok(())));
        }
        assert!(FepOptions::schedule(3).is_err() && FepOptions::schedule(101).is_err());
    }

    #[test]
    fn every_task_is_a_window_or_the_reduction_of_its_molecule() {
        let options = options();
        assert_eq!(options.part(TaskId(0)), FepPart::Window(0));
        assert_eq!(options.part(TaskId(12)), FepPart::Window(12));
        assert_eq!(options.part(TaskId(13)), FepPart::Reduction);
        assert_eq!(options.part(TaskId(14)), FepPart::Window(0));
        assert_eq!(options.first_of_group(TaskId(27)), TaskId(14));
    }

    #[test]
    fn what_is_no_calculation_is_named() {
        let check = |change: &dyn Fn(&mut FepOptions), expect: &str| {
            let mut options = options();
            change(&mut options);
            let error = options.validate(true).unwrap_err().to_string();
            assert!(error.starts_with(expect), "{error}");
        };
        check(&|o| o.lambdas_vdw.truncate(3), "lambdas_coulomb has 13 windows and lambdas_vdw 3");
        check(&|o| o.lambdas_vdw[12] = 0.9, "lambdas_vdw is no way from 0 to 1: 1 follows 0.9");
        check(&|o| o.lambdas_vdw[0] = 0.1, "lambdas_vdw is no way from 0 to 1: 0.1 follows 0");
        check(&|o| o.lambdas_coulomb[1] = f64::NAN, "lambdas_coulomb is no way from 0 to 1");
        check(&|o| o.lambdas_coulomb[1] = 1.5, "lambdas_coulomb is no way from 0 to 1: 1.5 follows 0");
        check(&|o| o.lambdas_vdw[5] = o.lambdas_vdw[4], "windows 4 and 5 are the same");
        check(&|o| o.window_ps = 0.5, "window_ps is 0.5 (expected a whole number");
        check(&|o| o.discard_ps = 20.0, "discard_ps is 20 (expected 0 or more, and less");
        check(&|o| o.equilibration_ps = 0.001, "equilibration_ps is 0.001");
        check(&|o| o.box_nm = 1.8, "box_nm is 1.8 (expected 2 to 20)");
        assert_eq!(options().validate(false), Err(FepError::NoDriver));
    }
}
