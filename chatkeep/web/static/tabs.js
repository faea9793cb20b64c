/** Notify other tabs of this browser about changed conversations. */

const channel = 'BroadcastChannel' in window ? new BroadcastChannel('chatkeep') : null;

/** Notify the other tabs that a conversation has changed or is gone. */
export const tellTabs = () => channel?.postMessage('changed');

/** Call `act` when another tab has changed a conversation. */
export const whenTold = (act) => channel?.addEventListener('message', act);
