// The browser packages of the page. The build step replaces this file when they are installed; as it is here it says
// that there are none, and every chart becomes a table.
export const uPlot = null;
