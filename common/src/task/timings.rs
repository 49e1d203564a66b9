//! When the phases of an attempt began and ended, in ms of the Redis clock.

/// The moments that a worker saw. All but the first two are absent when the attempt did not get there.
///
/// A worker's time is the Redis time of its lease reply plus monotonic time elapsed since, so a wrong clock on its host
/// changes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Moments {
    /// The task became pending.
    pub queued: u64,
    /// The lease was granted.
    pub leased: u64,
    /// All inputs were on local disk.
    pub staged: Option<u64>,
    /// The first engine step started.
    pub engine_started: Option<u64>,
    /// The last engine step ended.
    pub engine_ended: Option<u64>,
    /// The first output was sent.
    pub upload_started: Option<u64>,
    /// The last output was durable.
    pub upload_ended: Option<u64>,
}

/// A phase whose durations a run keeps a histogram of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Pending until leased.
    Queue,
    /// Leased until its inputs were there.
    Stage,
    /// First engine step until the last one's end.
    Engine,
    /// First output until the last one was durable.
    Upload,
    /// Leased until completed.
    Total,
}

impl Phase {
    /// All phases, in their order in time.
    pub const ALL: [Self; 5] = [Self::Queue, Self::Stage, Self::Engine, Self::Upload, Self::Total];

    /// The word in keys and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Stage => "stage",
            Self::Engine => "engine",
            Self::Upload => "upload",
            Self::Total => "total",
        }
    }
}

/// The moments of a completed attempt, as the task's hash keeps them in the one field `timings_ms`:
/// the Redis time of *queued*, then the ms from each moment to the next, `+` between them, `-` where a phase did not take place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Timings {
    /// What the worker saw.
    #[serde(flatten)]
    pub moments: Moments,
    /// The script recorded the success.
    pub completed: Option<u64>,
}

impl Moments {
    /// All moments in their order.
    pub const fn in_order(&self) -> [Option<u64>; 7] {
        [
            Some(self.queued),
            Some(self.leased),
            self.staged,
            self.engine_started,
            self.engine_ended,
            self.upload_started,
            self.upload_ended,
        ]
    }
}

impl Timings {
    /// Reads the field `timings_ms`; `None` if it is not of that form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut at = 0_u64;
        let mut moments = Vec::with_capacity(8);
        for part in text.split('+') {
            if part == "-" {
                moments.push(None);
                continue;
            }
            at = at.checked_add(part.parse().ok()?)?;
            moments.push(Some(at));
        }
        let [queued, leased, staged, engine_started, engine_ended, upload_started, upload_ended, completed] =
            moments.try_into().ok()?;
        Some(Self {
            moments: Moments {
                queued: queued?,
                leased: leased?,
                staged,
                engine_started,
                engine_ended,
                upload_started,
                upload_ended,
            },
            completed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_the_start_and_then_steps() {
        let timings = Timings::parse("1763860000000+50+3+1+2500+0+12+4").unwrap();
        assert_eq!(timings.moments.leased, 1_763_860_000_050);
        assert_eq!(timings.moments.engine_ended, Some(1_763_860_002_554));
        assert_eq!(timings.completed, Some(1_763_860_002_570));
    }

    #[test]
    fn phases_that_did_not_take_place_are_absent() {
        let timings = Timings::parse("100+5+1+-+-+-+-+4").unwrap();
        assert_eq!(timings.moments.engine_started, None);
        assert_eq!(timings.completed, Some(110));
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "1", "1+2+3+4+5+6+7", "1+2+3+4+5+6+7+8+9", "-+1+1+1+1+1+1+1", "a+1+1+1+1+1+1+1"] {
            assert_eq!(Timings::parse(bad), None, "{bad}");
        }
    }
}
