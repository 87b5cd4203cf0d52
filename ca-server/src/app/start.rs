//! The order in which a replica starts: what can be refused is refused first, then the store and the
//! root are opened, then ports are bound, and only then does anyone else learn of it.

use identity::{SpiffeIdError, ca_id};
use runtime::{Clock, FileError, LogLevelHandle, Supervisor};
use time::OffsetDateTime;

use super::Ca;
use super::foundation::Foundation;
use super::roots;
use super::sockets::{BindError, Sockets};
use super::web::{WebFileError, WebTls};
use crate::admin::AdminError;
use crate::attest::{Attestors, AttestorsError};
use crate::authority::{Authority, KeyPlaces, RootError};
use crate::clock_check::{ClockCheck, ClockOff};
use crate::config::{BrokenRule, Config};
use crate::issue::ServingError;
use crate::nesting::NestingError;
use crate::recovery::{Recovery, RecoveryConfigError};
use crate::registry::{Registry, RegistryError};
use crate::spool::SpoolOpenError;
use crate::store::{NameError, OpenError, Store, StoreConfig, StoreError};

/// Why a replica did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the configuration contradicts itself")]
    Config(#[from] BrokenRule),
    #[error("the replica's name makes no SPIFFE ID")]
    Replica(#[from] SpiffeIdError),
    #[error("the directories cannot be used")]
    Directory(#[from] FileError),
    #[error("cannot use [attest]")]
    Attest(#[from] AttestorsError),
    #[error("cannot open the store")]
    Open(#[from] OpenError),
    #[error("cannot be a replica")]
    Name(#[from] NameError),
    #[error("cannot read the store")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Clock(#[from] ClockOff),
    #[error("cannot use [spool]")]
    Spool(#[from] SpoolOpenError),
    #[error("cannot use [recovery]")]
    Recovery(#[from] RecoveryConfigError),
    #[error("cannot open the root of the trust domain")]
    Root(#[from] RootError),
    #[error("cannot stand below the instance of [upstream.countersign]")]
    Nesting(#[from] NestingError),
    #[error("cannot read the configuration objects")]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot use [web]")]
    Web(#[from] WebFileError),
    #[error(transparent)]
    Serving(#[from] ServingError),
    #[error("cannot make the administrator's credential")]
    Admin(#[from] AdminError),
}

pub(super) async fn start(
    config: Config,
    clock: Clock,
    log_level: Option<LogLevelHandle>,
) -> Result<Ca, StartError> {
    config.check()?;
    let (clock, steps) = clock.watched();
    let id = ca_id(&config.trust_domain, config.replica.as_str())?;
    let web_tls = WebTls::read(&config.web)?;
    let attestors = Attestors::load(&config.attest, &config.trust_domain, &clock)?;
    let places = KeyPlaces::of(&config.keys, config.upstream.as_ref())?;
    let store = open_store(&config, clock.now()).await?;
    let recovery = Recovery::open(config.recovery.as_ref(), &store, clock.clone())?;
    let clock_check = ClockCheck::begin(&store, &clock).await?;
    clock_check.require()?;
    let (keeper, nesting) = roots::open(&config, &store, places, &clock).await?;
    let notices = store.notices(config.replica.as_str()).await?;
    let own_names = config.advertise.dns_names();
    let (registry, registry_writer) =
        Registry::open(store.clone(), own_names, clock.clone()).await?;
    let roots = registry.snapshot().roots().clone();
    let first = keeper.sign_intermediate(&roots, clock.now()).await?;
    let authority = Authority::new(registry.roots(), first);
    let log_signer = keeper.log_signer(clock.now()).await?;
    let sockets = Sockets::bind(&config).await?;

    let mut supervisor = Supervisor::new();
    let shutdown = supervisor.shutdown();
    supervisor.spawn("clock", steps.run(shutdown.clone()));
    supervisor.spawn("registry", registry_writer.run(shutdown.clone()));
    let clocks = (clock.clone(), clock_check.clone());
    let standing = nesting.as_ref().map(|nesting| nesting.standing().clone());
    let rotation = roots::look_after(
        (&config, &store),
        (&registry, &authority),
        (keeper.clone(), nesting),
        clocks,
        &mut supervisor,
    );
    let foundation = Foundation {
        nesting: standing,
        id,
        store,
        keeper,
        authority,
        rotation,
        recovery,
        registry,
        log_signer,
        clock,
        clock_check,
        shutdown,
        config,
        attestors,
    };
    let sockets = (sockets, notices);
    let serving = foundation.serve(sockets, supervisor, web_tls, log_level);
    serving.await
}

pub(super) async fn open_store(config: &Config, now: OffsetDateTime) -> Result<Store, StartError> {
    if let Some(directory) = config.store.data_directory() {
        runtime::files::private_directory(directory)?;
    }
    let store = StoreConfig {
        place: config.store.clone(),
        trust_domain: config.trust_domain.clone(),
        id_template: config.id_template.clone(),
    };
    Ok(Store::open(&store, now).await?)
}
