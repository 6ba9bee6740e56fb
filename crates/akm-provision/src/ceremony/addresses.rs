//! Where a node listens and where it is reached: chosen once, and no two nodes alike.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use akm_core::id::AkmId;
use akm_target::Target;
use akm_transport::{Endpoint, NamedEndpoint};

use super::{DEFAULT_PORT, Order};
use crate::error::Error;
use crate::error::ceremony::{Device, Refusal, Unfit};
use crate::lock::{Lock, LockKey};
use crate::store::{Node, Store};

/// The environment variable that says from which ports local targets are given theirs, as `30000-30099`.
const PORTS_VARIABLE: &str = "AKM_PORTS";

/// Held from the choice of an address until that is in the store: no two nodes are given the same.
pub(super) fn choosing_addresses(store: &Store) -> Result<Lock, Error> {
    Ok(store.lock(LockKey::Addresses)?)
}

/// Ports are chosen once and recorded; a device that becomes a new node keeps its address.
pub(super) fn addresses(
    store: &Store,
    order: &Order,
    active: Option<&Node>,
    target: &Target,
) -> Result<(Endpoint, NamedEndpoint), Error> {
    let kept = active.and_then(|active| active.listen);
    let listen = match (order.listen, kept) {
        (Some(Endpoint::Ip(listen)), _) if listen.port() == 0 => {
            return Err(Refusal::from(Unfit::Port).into());
        }
        (Some(listen), _) | (None, Some(listen)) => listen,
        (None, None) if order.target.is_local() => free_address(store, IpAddr::V4(Ipv4Addr::LOCALHOST))?,
        (None, None) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DEFAULT_PORT).into(),
    };
    let kept = active.and_then(|active| active.endpoint.clone()).filter(|_| order.listen.is_none());
    let endpoint = match (&order.endpoint, kept) {
        (Some(endpoint), _) => endpoint.clone(),
        (None, Some(endpoint)) => endpoint,
        (None, None) => endpoint_of(listen, target)?,
    };
    check_endpoint_is_free(store, active.map(|active| active.id).as_slice(), &endpoint)?;
    Ok((listen, endpoint))
}

/// No two nodes are reached at the same place; `own` are the nodes that may be there.
pub(super) fn check_endpoint_is_free(
    store: &Store,
    own: &[AkmId],
    endpoint: &NamedEndpoint,
) -> Result<(), Error> {
    let mut others = store.nodes()?.into_iter().filter(|node| !own.contains(&node.id));
    match others.find(|node| node.endpoint.as_ref() == Some(endpoint)) {
        None => Ok(()),
        Some(other) => {
            Err(Refusal::from(Unfit::Endpoint { endpoint: endpoint.to_string(), name: other.name }).into())
        }
    }
}

/// Where a node that listens there is reached, unless the operator says otherwise.
pub(super) fn endpoint_of(listen: Endpoint, target: &Target) -> Result<NamedEndpoint, Error> {
    let Endpoint::Ip(address) = listen;
    if !address.ip().is_unspecified() {
        return Ok(listen.into());
    }
    let host = target.network_host()?;
    let port = address.port();
    let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    text.parse().map_err(|_| Refusal::from(Unfit::Host { text }).into())
}

/// A port that is free now and that no node of this module was given, running or not.
fn free_address(store: &Store, ip: IpAddr) -> Result<Endpoint, Error> {
    let given: Vec<Endpoint> = store.nodes()?.into_iter().filter_map(|node| node.listen).collect();
    let is_given = |port| given.contains(&SocketAddr::new(ip, port).into());
    let port = akm_transport::pick_port(ip, ports()?, is_given)
        .map_err(|source| Refusal::from(Device::System { action: "find a free port".to_owned(), source }))?;
    Ok(SocketAddr::new(ip, port).into())
}

/// From which ports local targets are given theirs: the environment may say so.
fn ports() -> Result<RangeInclusive<u16>, Error> {
    let Some(text) = std::env::var_os(PORTS_VARIABLE) else { return Ok(akm_transport::PORTS) };
    let range = text.to_str().and_then(|text| {
        let (first, last) = text.split_once('-')?;
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    range.filter(|range| !range.is_empty() && *range.start() > 0).ok_or_else(|| {
        let text = text.to_string_lossy().into_owned();
        Refusal::from(Unfit::Ports { variable: PORTS_VARIABLE, text }).into()
    })
}
