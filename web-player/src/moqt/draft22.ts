/** draft-ietf-moq-transport-22. */

import { codecOf } from "./wire/dialect";
import * as parameter from "./wire/parameters";

export const draft22 = codecOf({
  protocol: "moqt-22",
  parameters: [
    [parameter.objectDeliveryTimeout, "subscribe", "publish", "request-update"],
    [parameter.authorizationToken, "subscribe", "track-status", "publish", "request-update"],
    [parameter.rendezvousTimeout, "subscribe"],
    [parameter.subgroupDeliveryTimeout, "subscribe", "publish", "request-update"],
    [parameter.expires, "subscribe-ok", "publish", "request-ok"],
    [parameter.largestObject, "subscribe-ok", "publish", "request-ok", "publish-state-notify"],
    [parameter.fillTimeout],
    [parameter.forward, "subscribe", "publish", "request-update", "publish-state-notify"],
    [parameter.subscriberPriority, "subscribe", "publish", "request-update"],
    [parameter.locationFilter, "subscribe", "publish", "request-update", "publish-state-notify"],
    [parameter.groupOrder, "subscribe", "publish"],
    [parameter.fillParameters, "subscribe", "request-update"],
    [parameter.subgroupFilter, "subscribe", "request-update"],
    [parameter.objectIdFilter, "subscribe", "request-update"],
    [parameter.priorityFilter, "subscribe", "request-update"],
    [parameter.objectPropertyFilter, "subscribe", "request-update"],
    [parameter.trackPropertyFilter, "request-update"],
    [parameter.newGroupRequest, "subscribe", "request-update"],
    [parameter.trackNamespacePrefix, "request-update"],
    [parameter.includeProperties, "subscribe", "track-status"],
  ],
  // As in draft 18, and MAX_FILTER_RANGES, MAX_REQUEST_UPDATES.
  singleOptions: [0x01n, 0x04n, 0x05n, 0x06n, 0x07n, 0x08n],
  goAwayNamesRequest: false,
  hasStateNotify: true,
  hasPublishOk: false,
});
