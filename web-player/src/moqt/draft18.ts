/** draft-ietf-moq-transport-18. */

import { codecOf } from "./wire/dialect";
import * as parameter from "./wire/parameters";

export const draft18 = codecOf({
  protocol: "moqt-18",
  // PUBLISH_OK is a REQUEST_OK.
  parameters: [
    [parameter.objectDeliveryTimeout, "request-ok", "subscribe", "request-update"],
    [parameter.authorizationToken, "subscribe", "track-status", "publish", "request-update"],
    [parameter.rendezvousTimeout, "subscribe"],
    [parameter.subgroupDeliveryTimeout, "request-ok", "subscribe", "request-update"],
    [parameter.expires, "subscribe-ok", "publish", "request-ok"],
    [parameter.largestObject, "subscribe-ok", "publish", "request-ok"],
    [parameter.fillTimeout],
    [parameter.forward, "subscribe", "publish", "request-update", "request-ok"],
    [parameter.subscriberPriority, "subscribe", "request-update", "request-ok"],
    [parameter.subscriptionFilter, "subscribe", "request-update", "request-ok"],
    [parameter.groupOrder, "subscribe", "request-ok"],
    [parameter.newGroupRequest, "subscribe", "request-update", "request-ok"],
    [parameter.trackNamespacePrefix, "request-update"],
  ],
  // PATH, MAX_AUTH_TOKEN_CACHE_SIZE, AUTHORITY, MOQT_IMPLEMENTATION.
  singleOptions: [0x01n, 0x04n, 0x05n, 0x07n],
  goAwayNamesRequest: true,
  hasStateNotify: false,
  hasPublishOk: true,
});
