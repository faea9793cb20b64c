/** Other tabs of this browser: they are told that conversations have changed, and need not ask the server for it. */

const channel = 'BroadcastChannel' in window ? new BroadcastChannel('chatkeep') : null;

/** Tell the other tabs that a conversation has changed, or is gone. */
export const tellTabs = () => channel?.postMessage('changed');

/** Call `act` when another tab has changed a conversation. */
export const whenTold = (act) => channel?.addEventListener('message', act);
