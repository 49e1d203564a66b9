//! The parameters of the engine `gnina`. Pure.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Parameters of Gnina.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GninaOptions {
    /// Centre of the search box, x y z in Å, in the receptor's coordinates.
    pub center: [f64; 3],
    /// Edges of the search box, x y z in Å, each above 0.
    pub size: [f64; 3],
    /// Gnina's `--exhaustiveness`, from 1: Monte Carlo chains per docking.
    pub exhaustiveness: u32,
    /// Gnina's `--num_modes`, from 1: poses kept per molecule at most.
    pub modes: u32,
    /// Gnina's `--cnn_scoring`.
    pub cnn_scoring: CnnScoring,
    /// Which of Gnina's numbers is the score.
    pub score: GninaScore,
    /// Gnina's `--device`, from 0: the GPU, among those that the program sees. Any number of processes may share one.
    pub device: u32,
}

/// What the neural networks are used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CnnScoring {
    /// Nothing: the empirical function alone.
    None,
    /// To score and sort the final poses.
    Rescore,
    /// To refine the final poses, too.
    Refinement,
    /// To accept Monte Carlo steps, and to score.
    Metrorescore,
    /// To accept Monte Carlo steps, and to refine.
    Metrorefine,
    /// For everything; very slow.
    All,
}

/// Says that a word names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not one of: {expected}")]
pub struct UnknownWord {
    /// The word.
    pub found: String,
    /// The known ones.
    pub expected: String,
}

impl CnnScoring {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Rescore, Self::Refinement, Self::Metrorescore, Self::Metrorefine, Self::All];

    /// Gnina's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Rescore => "rescore",
            Self::Refinement => "refinement",
            Self::Metrorescore => "metrorescore",
            Self::Metrorefine => "metrorefine",
            Self::All => "all",
        }
    }
}

impl FromStr for CnnScoring {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        find(text, &Self::ALL, Self::name)
    }
}

/// A number that Gnina gives every pose, by the name of its tag in the SDF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GninaScore {
    /// The empirical function's estimate of the free energy of binding, in kcal/mol; lower is better.
    #[serde(rename = "minimizedAffinity")]
    MinimizedAffinity,
    /// The networks' probability that the pose is within 2 Å of the true one, 0 to 1; higher is better.
    #[serde(rename = "CNNscore")]
    CnnScore,
    /// The networks' estimate of the affinity, as pK; higher is better.
    #[serde(rename = "CNNaffinity")]
    CnnAffinity,
    /// The product of the last two, for virtual screening; higher is better.
    #[serde(rename = "CNN_VS")]
    CnnVs,
}

impl GninaScore {
    /// All of them, in the order of their columns.
    pub const ALL: [Self; 4] = [Self::MinimizedAffinity, Self::CnnScore, Self::CnnAffinity, Self::CnnVs];

    /// The tag in Gnina's SDF, and the column.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::MinimizedAffinity => "minimizedAffinity",
            Self::CnnScore => "CNNscore",
            Self::CnnAffinity => "CNNaffinity",
            Self::CnnVs => "CNN_VS",
        }
    }

    /// Its unit; empty for a pure number.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::MinimizedAffinity => "kcal/mol",
            Self::CnnAffinity => "pK",
            Self::CnnScore | Self::CnnVs => "",
        }
    }

    /// Whether it comes from the neural networks.
    pub const fn is_of_cnn(self) -> bool {
        !matches!(self, Self::MinimizedAffinity)
    }
}

impl FromStr for GninaScore {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        find(text, &Self::ALL, Self::tag)
    }
}

fn find<T: Copy>(text: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, UnknownWord> {
    all.iter().copied().find(|&one| name(one) == text).ok_or_else(|| UnknownWord {
        found: crate::excerpt::excerpt(text),
        expected: all.iter().map(|&one| name(one)).collect::<Vec<_>>().join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_the_same_on_the_command_line_and_in_a_spec() {
        for scoring in CnnScoring::ALL {
            assert_eq!(scoring.name().parse(), Ok(scoring));
            assert_eq!(serde_json::to_value(scoring).unwrap(), scoring.name());
        }
        for score in GninaScore::ALL {
            assert_eq!(score.tag().parse(), Ok(score));
            assert_eq!(serde_json::to_value(score).unwrap(), score.tag());
        }
        let refused = "CNN_vs".parse::<GninaScore>().unwrap_err().to_string();
        assert_eq!(refused, "`CNN_vs` is not one of: minimizedAffinity, CNNscore, CNNaffinity, CNN_VS");
    }
}
