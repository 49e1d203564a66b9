//! The cores and GPUs of this machine, handed to attempts.

/// What one task takes of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) threads: u32,
    /// Whether it takes a share of a GPU beside its cores.
    pub(crate) gpu: bool,
}

/// What one attempt has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) threads: u32,
    /// Which of the worker's GPUs, from 0.
    pub(crate) gpu: Option<usize>,
    /// The cores that are its own, by their numbers; empty if it runs on any.
    pub(crate) cores: Vec<usize>,
}

/// Says that no GPU has a share left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoGpuFree;

/// Cores and shares of GPUs, in use and free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slots {
    cores: u32,
    free: u32,
    tasks_per_gpu: u32,
    /// Free shares of each GPU.
    shares: Vec<u32>,
    /// Cores to pin tasks to, and those of them that are free; empty if tasks run on any.
    pinned: Vec<usize>,
    free_pinned: Vec<usize>,
}

impl Slots {
    pub(crate) fn new(cores: u32, gpus: usize, tasks_per_gpu: u32) -> Self {
        Self {
            cores,
            free: cores,
            tasks_per_gpu,
            shares: vec![tasks_per_gpu; gpus],
            pinned: Vec::new(),
            free_pinned: Vec::new(),
        }
    }

    /// Gives each task cores of its own among these.
    pub(crate) fn on_cores(self, pinned: Vec<usize>) -> Self {
        Self { free_pinned: pinned.clone(), pinned, ..self }
    }

    /// How many such tasks fit now.
    pub(crate) fn fit(&self, need: Need) -> u32 {
        let by_cores = self.free / need.threads.max(1);
        if need.gpu {
            by_cores.min(self.shares.iter().fold(0, |sum, free| sum.saturating_add(*free)))
        } else {
            by_cores
        }
    }

    /// Whether a core is free.
    pub(crate) fn is_core_free(&self) -> bool {
        self.free > 0
    }

    /// Takes what one task needs, with the GPU that has the most free shares. A repeated answer of Redis may give more than fits: cores
    /// are over-booked rather than lost, a GPU never is.
    pub(crate) fn take(&mut self, need: Need) -> Result<Taken, NoGpuFree> {
        let gpu = if need.gpu { Some(self.freest().ok_or(NoGpuFree)?) } else { None };
        if let Some(gpu) = gpu {
            self.shares[gpu] -= 1;
        }
        self.free = self.free.saturating_sub(need.threads);
        // One that is over-booked runs on any.
        let own =
            usize::try_from(need.threads).ok().filter(|own| *own <= self.free_pinned.len()).unwrap_or(0);
        Ok(Taken { threads: need.threads, gpu, cores: self.free_pinned.drain(..own).collect() })
    }

    /// The GPU with the most free shares, the first of several.
    fn freest(&self) -> Option<usize> {
        let free = (0..self.shares.len()).filter(|gpu| self.shares[*gpu] > 0);
        free.max_by_key(|gpu| (self.shares[*gpu], std::cmp::Reverse(*gpu)))
    }

    /// Gives back what is not in use; `busy` is what the attempts have that still run.
    pub(crate) fn settle<'a>(&mut self, busy: impl Iterator<Item = &'a Taken>) {
        let pinned = std::mem::take(&mut self.pinned);
        *self = Self::new(self.cores, self.shares.len(), self.tasks_per_gpu).on_cores(pinned);
        for taken in busy {
            self.free = self.free.saturating_sub(taken.threads);
            self.free_pinned.retain(|core| !taken.cores.contains(core));
            if let Some(gpu) = taken.gpu {
                self.shares[gpu] = self.shares[gpu].saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn cores(threads: u32) -> Need {
        Need { threads, gpu: false }
    }

    #[test]
    fn cores_are_divided_by_threads() {
        let mut slots = Slots::new(8, 0, 1);
        assert_eq!([1, 3, 9].map(|threads| slots.fit(cores(threads))), [8, 2, 0]);
        slots.take(cores(3)).unwrap();
        assert_eq!(slots.fit(cores(3)), 1);
        slots.settle(std::iter::empty());
        assert_eq!(slots.fit(cores(1)), 8);
    }

    #[test]
    fn over_booking_is_settled() {
        let mut slots = Slots::new(2, 0, 1);
        slots.take(cores(3)).unwrap();
        assert_eq!(slots.fit(cores(1)), 0);
        slots.settle(std::iter::once(&Taken { threads: 1, ..Taken::default() }));
        assert_eq!(slots.fit(cores(1)), 1);
    }

    #[test]
    fn tasks_spread_over_gpus() {
        let mut slots = Slots::new(8, 2, 2);
        let need = Need { threads: 1, gpu: true };
        assert_eq!(slots.fit(need), 4);
        let gpus: Vec<_> = (0..5).map(|_| slots.take(need).map(|taken| taken.gpu)).collect();
        assert_eq!(gpus, [Ok(Some(0)), Ok(Some(1)), Ok(Some(0)), Ok(Some(1)), Err(NoGpuFree)]);
        assert_eq!((slots.fit(need), slots.fit(cores(1))), (0, 4));
    }

    proptest! {
        #[test]
        fn no_gpu_has_more_tasks_than_shares(
            machine in (1u32..9, 0usize..5, 1u32..4),
            steps in prop::collection::vec((1u32..4, any::<bool>(), any::<prop::sample::Index>(), any::<bool>()), 0..60),
        ) {
            let (all_cores, gpus, tasks_per_gpu) = machine;
            let mut slots = Slots::new(all_cores, gpus, tasks_per_gpu).on_cores((0..all_cores as usize).collect());
            let mut running: Vec<Taken> = Vec::new();
            for (threads, gpu, which, ends) in steps {
                if ends && !running.is_empty() {
                    running.swap_remove(which.index(running.len()));
                    slots.settle(running.iter());
                } else {
                    let need = Need { threads, gpu };
                    let fits = slots.fit(need) > 0;
                    match slots.take(need) {
                        Ok(taken) => running.push(taken),
                        Err(NoGpuFree) => prop_assert!(gpu && !fits),
                    }
                }
                for which in 0..gpus {
                    let tasks = running.iter().filter(|taken| taken.gpu == Some(which)).count();
                    prop_assert_eq!(tasks + slots.shares[which] as usize, tasks_per_gpu as usize);
                }
                let mut pinned: Vec<usize> = running.iter().flat_map(|taken| taken.cores.clone()).chain(slots.free_pinned.clone()).collect();
                pinned.sort_unstable();
                prop_assert_eq!(pinned, (0..all_cores as usize).collect::<Vec<_>>());
                let busy: u32 = running.iter().map(|taken| taken.threads).sum();
                prop_assert_eq!(slots.free, all_cores.saturating_sub(busy));
            }
        }
    }
}
