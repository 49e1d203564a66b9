//! TeraChem's protocol over TCP: messages of its `.proto` behind a header of eight bytes, their kind and their size, both big-endian.
//!
//! One job: submitted, asked after until it is done, and its output taken. What the energies are worth is for others to say.

use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Endpoint;
use super::pool::Trouble;
use super::terachem_proto::status::JobStatus;
use super::terachem_proto::{JobInput, JobOutput, MessageType, Status};

/// How long a connection may take to be made.
const CONNECT_TIME_LIMIT: Duration = Duration::from_secs(5);
/// How long a server may take for any message: it answers while it computes.
const ANSWER_TIME_LIMIT: Duration = Duration::from_mins(1);
/// How often a server is asked whether it is done.
const POLL: Duration = Duration::from_millis(250);
/// More than any message with the orbitals of a molecule; what is longer is none.
const MESSAGE_BYTES_MAX: u32 = 256 << 20; // 256 MiB

/// A connection to a server.
#[derive(Debug)]
struct Session {
    stream: TcpStream,
}

/// Whether a server is there; busy is a trouble, too.
pub(crate) async fn check(endpoint: &Endpoint) -> Result<(), Trouble> {
    let status = Session::connect(endpoint).await?.status().await?;
    if status.busy { Err(busy()) } else { Ok(()) }
}

/// Has a server do a job. Once it is connected, silence and a broken connection are the end of a server that was at it.
pub(crate) async fn compute(endpoint: &Endpoint, job: &JobInput) -> Result<JobOutput, Trouble> {
    let session = Session::connect(endpoint).await?;
    match computed(session, endpoint, job).await {
        Err(Trouble::Away(how)) => Err(Trouble::Crashed(how)),
        done => done,
    }
}

async fn computed(mut session: Session, endpoint: &Endpoint, job: &JobInput) -> Result<JobOutput, Trouble> {
    session.send(MessageType::Jobinput, &job.encode_to_vec()).await?;
    let accepted: Status = session.receive(MessageType::Status).await?;
    if accepted.job_status != Some(JobStatus::Accepted(true)) {
        return Err(if accepted.busy { busy() } else { Trouble::Unwell("it takes no job".to_owned()) });
    }
    let (number, folder) = (accepted.server_job_id, accepted.job_dir);
    tracing::info!(server = %endpoint, job = number, folder, "job accepted");
    loop {
        match session.status().await?.job_status {
            Some(JobStatus::Completed(true)) => break,
            Some(JobStatus::Working(true)) => tokio::time::sleep(POLL).await,
            other => {
                return Err(Trouble::Away(format!("it has forgotten job {number} (its status: {other:?})")));
            }
        }
    }
    let output: JobOutput = session.receive(MessageType::Joboutput).await?;
    tracing::info!(server = %endpoint, job = number, energies = ?output.energy, "job done");
    fits(job, number, &output).map_err(Trouble::Nonsense)?;
    Ok(output)
}

/// Whether an output is that of this job.
fn fits(job: &JobInput, number: i32, output: &JobOutput) -> Result<(), String> {
    if output.energy.is_empty() {
        return Err(format!("the output of job {number} has no energy"));
    }
    if output.server_job_id != number {
        return Err(format!("an output of job {} (expected job {number})", output.server_job_id));
    }
    let atoms =
        |mol: Option<&super::terachem_proto::Mol>| mol.map(|mol| mol.atoms.clone()).unwrap_or_default();
    let (ours, theirs) = (atoms(job.mol.as_ref()), atoms(output.mol.as_ref()));
    if !theirs.is_empty() && theirs != ours {
        return Err(format!("the output of job {number} has {} other atoms", theirs.len()));
    }
    Ok(())
}

fn busy() -> Trouble {
    Trouble::Busy { after: None, said: "it has a job".to_owned() }
}

impl Session {
    async fn connect(endpoint: &Endpoint) -> Result<Self, Trouble> {
        let connected =
            tokio::time::timeout(CONNECT_TIME_LIMIT, TcpStream::connect(endpoint.address())).await;
        match connected {
            Ok(Ok(stream)) => Ok(Self { stream }),
            Ok(Err(error)) => Err(Trouble::Away(error.to_string())),
            Err(_) => Err(Trouble::Away("it takes no connection".to_owned())),
        }
    }

    /// Asks how it is.
    async fn status(&mut self) -> Result<Status, Trouble> {
        self.send(MessageType::Status, &[]).await?;
        self.receive(MessageType::Status).await
    }

    async fn send(&mut self, kind: MessageType, message: &[u8]) -> Result<(), Trouble> {
        let size = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let mut packet = Vec::with_capacity(8 + message.len());
        packet.extend((kind as u32).to_be_bytes());
        packet.extend(size.to_be_bytes());
        packet.extend(message);
        in_time(self.stream.write_all(&packet)).await
    }

    async fn receive<M: Message + Default>(&mut self, kind: MessageType) -> Result<M, Trouble> {
        let found = in_time(self.stream.read_u32()).await?;
        let size = in_time(self.stream.read_u32()).await?;
        if found != kind as u32 || size > MESSAGE_BYTES_MAX {
            let expected = format!("expected kind {} and {MESSAGE_BYTES_MAX} bytes at most", kind as u32);
            return Err(Trouble::Nonsense(format!(
                "a message of kind {found} and {size} bytes ({expected})"
            )));
        }
        let mut message = Vec::new();
        in_time((&mut self.stream).take(size.into()).read_to_end(&mut message)).await?;
        if message.len() < size as usize {
            return Err(Trouble::Away(format!(
                "its message broke off after {} of {size} bytes",
                message.len()
            )));
        }
        M::decode(&*message).map_err(|error| Trouble::Nonsense(format!("a message that is none: {error}")))
    }
}

async fn in_time<T>(io: impl Future<Output = std::io::Result<T>>) -> Result<T, Trouble> {
    match tokio::time::timeout(ANSWER_TIME_LIMIT, io).await {
        Ok(done) => done.map_err(|error| Trouble::Away(format!("the connection broke: {error}"))),
        Err(_) => Err(Trouble::Away("no answer in time".to_owned())),
    }
}
