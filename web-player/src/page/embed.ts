/** `/embed/BROADCAST`: nothing but the player, for an iframe. */

import "../index";
import { broadcastOfPath } from "../source";
import { makePlayer } from "./player";

const broadcast = broadcastOfPath(location.pathname, "/embed/");
document.title = `${broadcast} · Weir`;
document.body.append(makePlayer(broadcast));
