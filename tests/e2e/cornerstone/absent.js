// Stands for xmlbuilder2, which dcmjs needs only to write XML, and which does not run in a browser.
export default {};
export const create = () => {};
export const fragment = () => {};
export const convert = () => {};
